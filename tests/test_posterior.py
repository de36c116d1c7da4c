"""Bayes' rule on worlds whose class probabilities are known."""

import math

import pytest
import torch
from torch.testing import assert_close

from harness.faults import catches
from harness.support import F64, LIMIT, f64, seeded
from kakusan.bound import elbo
from kakusan.errors import InputError
from kakusan.likelihood.classes import _gaps, posterior
from kakusan.likelihood.diffusion import of_diffusion
from kakusan.models.diffusion import Diffusion
from kakusan.models.labels import Labels
from kakusan.models.mixture import Mixture
from kakusan.oracles import GaussianWorld, MixtureWorld
from kakusan.schedule import Schedule
from test_laws import ExactByClass

SHARE, MEANS, VARS = f64([0.2, 0.5, 0.3]), f64([-0.8, 0.1, 0.9]), f64([0.2, 0.3, 0.15])
WORLD = MixtureWorld(SHARE, MEANS, VARS)
SCHEDULE = Schedule.cosine(200)
PARTS = [GaussianWorld([mean], [[var]]) for mean, var in zip(MEANS.tolist(), VARS.tolist())]


def labels():
    found = Labels(3, (1,), dropout=0.1)
    found.share.copy_(SHARE)
    return found


class Best(torch.nn.Module):
    """The perfect denoiser of each class, and of the mixture under the null class."""

    def __init__(self):
        super().__init__()
        self.networks = [world.network(SCHEDULE.beta[1:], "v") for world in (*PARTS, WORLD)]

    def forward(self, z, t, cond):
        every = torch.stack([network(z, t) for network in self.networks])
        return every[cond, torch.arange(len(z))]


def diffusion():
    return Mixture(Diffusion(Best(), SCHEDULE, 1, "v", "beta_tilde").double(), labels())


def draws(n, seed):
    k = torch.multinomial(SHARE, n, replacement=True, generator=seeded(seed))
    return k, (MEANS[k] + VARS[k].sqrt() * torch.randn(n, generator=seeded(seed + 1), dtype=F64))[:, None]


def rows_of(x):
    return lambda rows: x[rows]


@catches("""likelihood/classes.py: the log-odds are those against the least likely class
- math.inf).amin(1)
+ -math.inf).amax(1)""")
@catches("""likelihood/classes.py: the likeliest class is that of the largest bound
- best = (draws.nanmean(2) + prior)
+ best = draws.nanmean(2)""")
@catches("""likelihood/classes.py: Bayes' rule forgets p(k)
- gap = gap + prior[best][:, None] - prior
+ gap = gap""")
def test_with_exact_bounds_the_probabilities_are_exact():
    x = torch.linspace(-2, 2, 9, dtype=F64)[:, None]
    found = posterior(Mixture(ExactByClass(MEANS, VARS), labels()), rows_of(x), len(x))
    exact = WORLD.responsibilities(x, 1.0, 0.0).T
    assert_close(found.probs, exact, rtol=0, atol=1e-9)
    log_px = torch.stack([torch.distributions.Normal(m, v.sqrt()).log_prob(x[:, 0]) for m, v in zip(MEANS, VARS)], 1)
    assert_close(found.bounds, log_px, rtol=0, atol=1e-9)
    assert found.stderr.max() < 1e-9
    best, second = exact.topk(2, dim=1).values.unbind(1)
    assert_close(found.log_odds, (best / second).log(), rtol=0, atol=1e-9)


@catches("""likelihood/classes.py: the error of log-odds is half of what it is
- (var / number).sqrt()
+ (var / number).sqrt() / 2""")
def test_a_gap_is_the_mean_of_paired_differences_with_their_standard_error():
    nan = math.nan
    draws = f64([[[1, 2, 6, 3], [0, 2, 1, 4], [5, 1, nan, nan]]])
    mean, stderr = _gaps(draws, torch.tensor([0]))
    apart = [f64([0, 0, 0, 0]), f64([1, 0, 5, -1]), f64([-4, 1])]
    assert_close(mean, torch.stack([one.mean() for one in apart])[None], rtol=1e-12, atol=0)
    assert_close(stderr, torch.stack([one.std() / len(one) ** 0.5 for one in apart])[None], rtol=1e-12, atol=0)


def test_class_probabilities_are_calibrated():
    k, x = draws(6000, 10)
    found = posterior(Mixture(ExactByClass(MEANS, VARS), labels()), rows_of(x), len(x), most=16)
    hits = torch.nn.functional.one_hot(k, 3).double()
    for low, high in ((0.0, 0.05), (0.05, 0.3), (0.3, 0.6), (0.6, 0.9), (0.9, 1.0)):
        inside = (found.probs >= low) & (found.probs <= high)
        claimed = found.probs[inside]
        assert len(claimed) > 100
        # of exact probabilities 1.4 % of seeds exceed 3 standard errors in one of five bins; the seed is fixed
        off = (hits[inside] - claimed).sum() / (claimed * (1 - claimed)).sum().sqrt()
        assert off.abs() < 3


def test_the_log_odds_of_a_diffusion_model_are_exact_within_their_small_standard_error():
    _, x = draws(100, 10)
    found = posterior(diffusion(), rows_of(x), len(x), most=64)
    exact = WORLD.responsibilities(x, 1.0, 0.0).T
    best, second = found.probs.topk(2, dim=1).indices.unbind(1)
    rows = torch.arange(len(x))
    odds = [(probs[rows, best] / probs[rows, second]).log() for probs in (found.probs, exact)]
    # noise is common to all examples, so their errors are hardly more than one draw; LIMIT has 1 false alarm in 3e5
    assert ((odds[0] - odds[1]) / found.stderr).mean().abs() < LIMIT
    assert found.stderr.median() < 0.6  # nats; with noise of its own for each class 2.9


@catches("""likelihood/classes.py: each round of Bayes' rule repeats the noise of the first
- stream(seed, "classes", done, device=x.device)
+ stream(seed, "classes", device=x.device)""")
def test_every_round_has_noise_of_its_own():
    x = f64([[0.5]])  # between two classes
    one, two = (posterior(diffusion(), rows_of(x), 1, most=most) for most in (16, 32))
    assert two.evaluations > one.evaluations
    assert abs(two.log_odds - one.log_odds).item() > 1e-6


def test_classes_that_are_clearly_worse_get_no_further_evaluations():
    x = f64([[-40.0], [0.1]])
    found = posterior(Mixture(ExactByClass(f64([-40.0, 0.0, 0.2]), VARS), labels()), rows_of(x), 2, most=64)
    assert found.evaluations == 3 * 16 + 16 + 2 * 64  # the first is decided at once, the second keeps two classes


def test_a_class_without_probability_is_never_found():
    classes = Labels(3, (1,))
    classes.share.copy_(f64([0.4, 0.6, 0.0]))
    found = posterior(Mixture(ExactByClass(MEANS, VARS), classes), rows_of(f64([[0.9], [0.0]])), 2)
    assert found.probs[:, 2].tolist() == [0, 0]
    assert_close(found.probs.sum(1), torch.ones(2, dtype=F64))


def test_results_depend_on_the_example_alone():
    _, x = draws(6, 3)
    whole, part = posterior(diffusion(), rows_of(x), 6, most=16), posterior(diffusion(), rows_of(x[4:]), 2, most=16)
    assert_close(whole.probs[4:], part.probs, rtol=0, atol=1e-12)


def test_too_few_evaluations_are_refused():
    with pytest.raises(InputError, match="at least 2 evaluations"):
        posterior(diffusion(), rows_of(torch.zeros(1, 1, dtype=F64)), 1, most=1)


@pytest.mark.parametrize("encoder_std", [1.0, 1.3])
def test_the_bound_given_a_label_is_at_most_the_joint_and_equal_for_the_exact_encoder(encoder_std):
    class Wider(ExactByClass):
        def encode(self, z, t, cond=None):
            q = super().encode(z, t, cond)
            return type(q)(q.mean, q.std * encoder_std)

    k, x = draws(400, 5)
    chain = Mixture(Wider(MEANS, VARS), labels())
    joint = SHARE[k].log() + torch.distributions.Normal(MEANS[k], VARS[k].sqrt()).log_prob(x[:, 0])
    ours = SHARE[k].log() + torch.stack([elbo(chain, x, seeded(s), cond=k) for s in range(50)]).mean(0)
    if encoder_std == 1.0:
        assert_close(ours, joint, rtol=0, atol=1e-10)
    else:
        assert (joint - ours).mean() > 0.01


@catches("""likelihood/diffusion.py: nats of the classes are those of other rows
- self.log_prior[rows].double()
+ self.log_prior[: len(rows)].double()""")
@catches("""likelihood/diffusion.py: given classes are those of other rows
- return self.given[rows].to(x.device)
+ return self.given[: len(rows)].to(x.device)""")
def test_the_evaluated_bound_given_labels_is_that_of_each_class():
    parts = [GaussianWorld([10 * mean], [[var]]) for mean, var in zip(MEANS.tolist(), VARS.tolist())]
    networks = [world.network(SCHEDULE.beta[1:], "v") for world in parts]

    def best(z, t, cond):
        return torch.stack([network(z, t) for network in networks])[cond, torch.arange(len(z))]

    k = torch.arange(1500) % 3
    x = torch.stack([world.sample(500, seeded(8)) for world in parts], 1).flatten(0, 1)
    chain = Mixture(Diffusion(best, SCHEDULE, 1, "v", "beta_tilde").double(), labels())
    found = of_diffusion(chain, rows_of(x), len(x), cond=k)
    total = sum(found.terms.values())
    for one in range(3):
        alone = Diffusion(networks[one], SCHEDULE, 1, "v", "beta_tilde").double()
        expected = of_diffusion(alone, rows_of(x[one::3]), 500, seed=3)
        difference = total[one::3].mean() - sum(expected.terms.values()).mean()
        assert difference.abs() < 5 * ((total[one::3].var() / 500) + expected.var).sqrt()
        assert difference.abs() < 1  # nats; another class costs dozens
    assert "class" not in found.terms
    log_prior = torch.linspace(-3, -1, len(x), dtype=F64)
    assert_close(of_diffusion(chain, rows_of(x), len(x), cond=k, log_prior=log_prior).terms["class"], log_prior)
