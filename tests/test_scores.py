"""Scores of single examples: their intervals cover the exact bound, and the strangest examples are found cheaply."""

import itertools
import math
import re
from typing import Any

import pytest
import torch
from torch.testing import assert_close

import kakusan as kk
from harness.faults import catches
from harness.support import F64, seeded
from kakusan.distributions import Normal, add
from kakusan.likelihood.classes import posterior
from kakusan.likelihood.diffusion import of_diffusion
from kakusan.likelihood.ranking import rank_examples
from kakusan.likelihood.scores import cost_of_perfect_estimates, draws_of, score_examples, stderr_of
from kakusan.likelihood.step_groups import default_law
from kakusan.models.diffusion import Diffusion
from kakusan.noise import stream
from kakusan.oracles import GaussianWorld, LinearVAEWorld
from kakusan.progress import Work, showing_progress
from kakusan.run.build import build
from kakusan.run.families.diffusion import DiffusionConfig
from kakusan.run.families.hierarchy import HierarchyConfig
from kakusan.run.families.vae import VAEConfig
from kakusan.schedule import Schedule

WORLD = GaussianWorld([0.3, -0.2, 0.1, 0.0], torch.diag(torch.tensor([0.6, 0.4, 0.3, 0.8])) + 0.1)
SCHEDULE = Schedule.cosine(50)
BETAS = SCHEDULE.beta[1:]
MODEL = Diffusion(WORLD.network(BETAS, "x"), SCHEDULE, 4, "x").double()
DRAWS, REPLICATES = 128, 3000


def test_intervals_of_single_examples_cover_the_exact_bound_and_are_not_too_wide():
    """Four examples share noise within a seed; 150 seeds give coverage within 2 points at two standard errors."""
    x = WORLD.sample(4, seeded(0))
    right = WORLD.exact_elbo(BETAS, "beta", x)
    found = [score_examples(MODEL, lambda rows: x[rows], 4, 4, DRAWS, None, seed) for seed in range(150)]
    nats, stderr = (torch.stack([getattr(one, name) for one in found]) for name in ("nats", "stderr"))
    ratio = (stderr.square().mean(0) / nats.var(0)).sqrt()
    assert ((ratio > 0.8) & (ratio < 1.25)).all(), ratio  # a standard deviation of 150 values has 6 percent error
    assert ((nats - right).abs() < 1.96 * stderr).double().mean() > 0.89


@catches("""likelihood/scores.py: the gain of stratification is counted as noise
- return (draws.diff(dim=1).square().mean(1) / (2 * draws.shape[1])).sqrt()
+ return (draws.var(1) / draws.shape[1]).sqrt()""")
def test_95_percent_intervals_cover_93_5_to_96_5_percent_on_a_world():
    """Stratified draws of one example, REPLICATES at once; the error of the coverage is 0.4 points."""
    x, law, generator = WORLD.sample(1, seeded(3)), default_law(MODEL), seeded(4)
    t = torch.stack([law.draw(DRAWS, generator).sort().values for _ in range(REPLICATES)])
    eps = torch.randn(REPLICATES * DRAWS, 4, generator=generator, dtype=torch.float64)
    many = x.expand(len(eps), -1)
    q = MODEL.marginal(many, t.flatten())
    cost = MODEL.step_cost(many, q.mean + q.std * eps, t.flatten()).view(REPLICATES, DRAWS)
    free = cost_of_perfect_estimates(MODEL, x)[0]
    draws = -MODEL.prior_kl(x) - free.sum() - (cost - free[t - 1]) / law.prob(t)
    right = WORLD.exact_elbo(BETAS, "beta", x)
    covered = ((draws.mean(1) - right).abs() < 1.96 * stderr_of(draws)).double().mean().item()
    assert 0.935 <= covered <= 0.965, covered


def test_independent_draws_are_covered_as_well():
    weight = 0.3 * torch.randn(24, 12, generator=seeded(0), dtype=torch.float64)
    world = LinearVAEWorld(weight, torch.zeros(24), 0.5)
    x = world.sample(1, seeded(1))
    mean, var = world.best_diagonal(x)
    z = mean + var.sqrt() * torch.randn(REPLICATES * DRAWS, 12, generator=seeded(2), dtype=torch.float64)
    log_px = torch.distributions.Normal(z @ world.weight.T + world.bias, 0.5**0.5).log_prob(x).sum(1)
    kl = world.terms(x, mean, var)["kl"]
    draws = (log_px - kl).view(REPLICATES, DRAWS)
    covered = ((draws.mean(1) - world.elbo(x, mean, var)).abs() < 1.96 * stderr_of(draws)).double().mean().item()
    assert 0.935 <= covered <= 0.965, covered


def test_the_mean_of_the_scores_equals_the_evaluation_within_errors():
    x = WORLD.sample(300, seeded(5))
    scores = score_examples(MODEL, lambda rows: x[rows], 300, 4, 256, None, 0)
    estimate = of_diffusion(MODEL, lambda rows: x[rows], 300, 0)
    evaluated = sum(estimate.terms.values()).mean()
    noise = (estimate.var_monte_carlo + scores.stderr.mean() ** 2) ** 0.5  # examples share the noise of the scores
    assert (scores.nats.mean() - evaluated).abs() < 4.5 * noise
    right = WORLD.exact_elbo(BETAS, "beta", x)
    assert torch.corrcoef(torch.stack([scores.nats, right]))[0, 1] > 0.95


@catches(
    """likelihood/ranking.py: the likeliest examples are called the strangest
- found.nats.argsort(stable=True)[:top]
+ found.nats.argsort(stable=True, descending=True)[:top]"""
)
@catches(
    """likelihood/ranking.py: no example is evaluated again
- if not len(left):
+ if True:"""
)
@catches(
    """likelihood/ranking.py: new scores are given to other examples
- batch(rows[part])
+ batch(part)"""
)
def test_the_strangest_examples_are_found_and_only_open_ones_cost_more():
    x = WORLD.sample(60, seeded(6))
    x[7], x[31] = 4.0, -4.0
    found = rank_examples(MODEL, lambda rows: x[rows], 60, 4, 5, 16, None, 0)
    right = WORLD.exact_elbo(BETAS, "beta", x)
    assert set(found.rows[:2].tolist()) == {7, 31}
    assert {*found.rows.tolist()} <= {*right.argsort()[:9].tolist()}
    assert found.draws[7] == found.draws[31] == 16
    assert 16 < found.draws.max() <= 16 * 2**4
    assert found.draws.double().mean() < 0.7 * found.draws.max()
    off = (found.scores.nats - right).abs() / found.scores.stderr
    assert off.max() < 8  # a Student distribution with few degrees of freedom


@catches("""likelihood/ranking.py: a further round looks like the first one that starts again
- with stages(f"measuring {counted(len(rows), 'close example')} again", 1):
+ with stages("measuring the bound", 1):""")
def test_further_rounds_of_a_ranking_are_named_in_the_progress(monkeypatch):
    x, labels = WORLD.sample(60, seeded(6)), []

    def begin(work, label, total, begin=Work.begin):
        labels.extend([] if work.levels else [label])
        return begin(work, label, total)

    monkeypatch.setattr(Work, "begin", begin)
    with showing_progress():
        rank_examples(MODEL, lambda rows: x[rows], 60, 4, 5, 16, None, 0)
    assert labels[0] == "measuring the bound"
    assert len(labels) > 1
    assert all(re.fullmatch(r"measuring \d+ close examples? again", label) for label in labels[1:])


def test_scores_do_not_depend_on_how_many_examples_are_scored_at_once():
    x = WORLD.sample(5, seeded(8))
    whole = score_examples(MODEL, lambda rows: x[rows], 5, 4, 32, None, 0)
    alone = score_examples(MODEL, lambda rows: x[2:3][rows], 1, 4, 32, None, 0)
    assert_close(whole.nats[2:3], alone.nats, rtol=1e-12, atol=0)


@catches("""likelihood/scores.py: the draws of a diffusion model are in the order in which they were drawn
- return draws[:, t.argsort(stable=True)]
+ return draws""")
def test_neighboring_draws_are_of_neighboring_timesteps(monkeypatch):
    """With one noise for all draws the cost is a function of t alone, and equal steps are neighbors."""
    x, shape = WORLD.sample(1, seeded(9)), []

    def same(size, *others):
        shape.append(size)
        return torch.full(size, 0.5, dtype=F64)

    monkeypatch.setattr("kakusan.likelihood.scores.randn", same)
    (draws,) = draws_of(MODEL, x, 256, seeded(10)).tolist()
    changes = sum(one != other for one, other in itertools.pairwise(draws))
    assert len(shape) == 256
    assert changes == len(set(draws)) - 1


class PastTheRoom(kk.LatentChain):
    """A chain whose encoder draws with torch's own function."""

    depth = 1

    def prior(self, cond=None):
        """N(0, 1)."""
        return Normal(torch.zeros(1, 1, dtype=F64), torch.ones(1, 1, dtype=F64))

    def decode(self, z, t, cond=None):
        """N(z, 1)."""
        return Normal(z.expand(-1, 4), torch.ones_like(z))

    def encode(self, z, t, cond=None) -> Any:
        """N(0, 4)."""
        outer = Normal(0 * z[:, :1], torch.full((len(z), 1), 2.0, dtype=F64))

        class Own:
            log_prob = outer.log_prob

            def sample(self, generator=None):
                return outer.mean + outer.std * torch.randn(len(z), 1, generator=generator, dtype=F64)

        return Own()


def of_classes(name):
    """A model of 3 labels with random weights."""
    names = {"condition": "labels", "classes": tuple("abc")}
    config = {
        "vae": lambda: VAEConfig(hidden=(8,), latent=2, **names),
        "hierarchy": lambda: HierarchyConfig(hidden=8, latents=(3, 2), **names),
        "diffusion": lambda: DiffusionConfig(width=8, inner_width=8, blocks=1, depth=20, **names),
    }[name]()
    torch.manual_seed(0)
    model = build(config, (1, 8, 8)).double().eval()
    for parameter in model.parameters():
        parameter.data = 0.1 * torch.randn_like(parameter)
    return model


@catches("""likelihood/scores.py: all draws of a batch have the same noise
- zip(*(noted.again(generator) for _ in part))
+ zip(*([noted.again(generator)] * len(part)))""")
@catches("""models/mixture.py: the classes of one batch stand in another order
- k = classes.repeat_interleave(len(x))
+ k = classes.repeat(len(x))""")
@torch.no_grad()
@pytest.mark.parametrize("name", ["vae", "hierarchy", "diffusion"])
def test_draws_in_one_batch_have_the_noise_that_they_have_one_after_another(name):
    model, x = of_classes(name), torch.rand(3, 1, 8, 8, generator=seeded(1), dtype=F64) * 2 - 1
    x = ((x + 1) * 127.5).round() / 127.5 - 1
    generator = seeded(2)
    log_joint = [
        add(model.chain.draw_terms(x, torch.full((3,), k), [stream(0, "responsibilities") for _ in x]).values())
        - math.log(3)
        for k in range(3)
    ]
    q = torch.stack(log_joint, 1).softmax(1)
    turns = []
    for _ in range(9):
        each = [add(model.chain.draw_terms(x, torch.full((3,), k), generator).values()) for k in range(3)]
        turns.append((q * (torch.stack(each, 1) - math.log(3) - q.clamp(min=1e-300).log())).sum(1))
    assert_close(draws_of(model, x, 9, seeded(2)), torch.stack(turns, 1), rtol=1e-12, atol=1e-10)


@catches("""likelihood/scores.py: scores by clusters lack the share of the cluster [diffusion]
- known = known + classes.log_prob(k).cpu()
+ pass""")
@catches("""likelihood/scores.py: scores of a VAE by clusters lack the share of the cluster [vae]
- else draws + classes.log_prob(k).cpu()[:, None]
+ else draws""")
@catches("""likelihood/scores.py: bounds given a class have the share of the class too [diffusion]
- if classes is not None and cond is None and k is not None:
+ if classes is not None and k is not None:""")
@torch.no_grad()
@pytest.mark.parametrize("name", ["vae", "diffusion"])
def test_draws_of_a_known_class_have_its_share_unless_the_class_is_given(name):
    chain, k = of_classes(name).chain, torch.tensor([2, 0])
    model = kk.Mixture(chain, kk.Classes([0.2, 0.3, 0.5], assign=lambda x: k))
    x = torch.full((2, 1, 8, 8), 0.2, dtype=F64)
    given = draws_of(chain, x, 6, seeded(2), k)
    assert_close(draws_of(model, x, 6, seeded(2), k), given, rtol=1e-12, atol=0)
    share = torch.tensor([[0.5], [0.2]], dtype=F64).log()
    assert_close(draws_of(model, x, 6, seeded(2)), given + share, rtol=1e-12, atol=0)


def test_a_chain_that_draws_with_a_function_of_its_own_is_evaluated_draw_by_draw():
    chain, x, generator = PastTheRoom(), torch.zeros(2, 4, dtype=F64), seeded(0)
    turns = [add(chain.draw_terms(x, None, generator).values()) for _ in range(5)]
    assert_close(draws_of(chain, x, 5, seeded(0)), torch.stack(turns, 1), rtol=0, atol=0)


@catches("""likelihood/classes.py: the classes of one batch are given to other examples
- return ((part[:, 0], part[:, 1]) for part in parts if len(part))
+ return ((part[:, 0], part[:, 1].flip(0)) for part in parts if len(part))""")
@torch.no_grad()
@pytest.mark.parametrize("name", ["vae", "diffusion"])
def test_classes_in_one_batch_have_the_bounds_that_they_have_alone(name):
    model, x = of_classes(name), torch.full((2, 1, 8, 8), 0.2, dtype=F64)
    x[1] = -1
    found = posterior(model, lambda rows: x[rows], 2, 16)
    for k in range(3):
        alone = draws_of(model, x, 16, stream(0, "classes", 0), torch.full((2,), k))
        assert_close(found.bounds[:, k], alone.mean(1), rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        (
            {"evaluations": 1},
            "scores need at least 2 evaluations per example for a standard error, got 1",
        ),
        (
            {"evaluations": True},
            "scores need at least 2 evaluations per example for a standard error, got True",
        ),
        (
            {"evaluations": 4.0},
            "scores need at least 2 evaluations per example for a standard error, got 4.0",
        ),
        ({"error": 0.0}, "the wanted standard error must be a positive number of nats, got 0.0"),
        ({"error": math.nan}, "the wanted standard error must be a positive number of nats, got nan"),
    ],
)
def test_scores_with_an_error_that_cannot_be_measured_are_refused(choices, sentence):
    x = WORLD.sample(2, seeded(0))
    with pytest.raises(kk.InputError) as caught:
        score_examples(MODEL, lambda rows: x[rows], 2, 4, **choices)
    assert str(caught.value) == sentence


def test_scores_and_rankings_begin_with_128_draws_and_scores_with_fewest_take_two():
    x = WORLD.sample(2, seeded(0))
    found = score_examples(MODEL, lambda rows: x[rows], 2, 4)
    assert found.evaluations == 128
    assert len(found) == 2
    assert score_examples(MODEL, lambda rows: x[rows], 2, 4, 2).evaluations == 2
    ranked = rank_examples(MODEL, lambda rows: x[rows], 2, 4, 2)  # both are the strangest, so none is close
    assert (ranked.draws.tolist(), ranked.num_open) == ([128, 128], 0)


def test_a_row_without_noise_has_no_error_and_its_neighbors_keep_theirs():
    draws = torch.tensor([[3.0, 3.0, 3.0], [1.0, 2.0, 5.0]], dtype=F64)
    assert_close(stderr_of(draws), torch.tensor([0.0, (5 / 6) ** 0.5], dtype=F64))  # (1 + 9) / 2 / (2 * 3)
