"""Guidance extrapolates from a weaker model through a better one; with affine denoisers the result is affine too."""

import pytest
import torch
from torch.testing import assert_close

from harness.faults import catches
from harness.support import F64, SMALL_BETAS, affine_diffusion, f64, gaussian_x_denoiser, seeded
from kakusan.bound import ancestral_sample
from kakusan.errors import InputError
from kakusan.guidance import classifier_free, guided
from kakusan.models.diffusion import Diffusion
from kakusan.models.labels import Labels
from kakusan.models.mixture import Mixture
from kakusan.run.families.diffusion import DiffusionConfig
from kakusan.run.recipe import Recipe
from kakusan.run.sampling import SamplingPolicy
from kakusan.schedule import Schedule
from kakusan.solvers import sample

SCHEDULE = Schedule.from_betas(SMALL_BETAS)
GENTLE = gaussian_x_denoiser(SCHEDULE, f64([0.0, 0.0]), torch.eye(2, dtype=F64) * 2)
SHARP = gaussian_x_denoiser(SCHEDULE, f64([0.4, -0.2]), torch.eye(2, dtype=F64) * 0.5)


def model(denoiser, **options):
    return Diffusion(denoiser, SCHEDULE, 2, prediction="x", **options).double()


def asked(denoiser):
    """The denoiser, and the list of times that it was asked about."""
    times = []

    def ask(z, t):
        times.extend(t.tolist())
        return denoiser(z, t)

    return ask, times


@catches("""guidance.py: guidance leads towards the weaker model [3]
- theirs + self.weight * (ours - theirs)
+ ours + self.weight * (theirs - ours)""")
@catches("""guidance.py: guidance starts from the better model and goes too far by one [3]
- theirs + self.weight * (ours - theirs)
+ ours + self.weight * (ours - theirs)""")
@pytest.mark.parametrize("t", [1, 3, 5])
def test_the_guess_of_the_data_is_prolonged_by_the_weight(t):
    z = torch.randn(7, 2, generator=seeded(0), dtype=F64)
    both = guided(model(SHARP), model(GENTLE), 2.5).data_estimate(z, t)
    weak, sharp = (model(one).data_estimate(z, t) for one in (GENTLE, SHARP))
    assert_close(both, weak + 2.5 * (sharp - weak), rtol=1e-12, atol=1e-12)


def test_every_parametrisation_is_guided_to_the_same_guess():
    z, t = torch.randn(4, 2, generator=seeded(1), dtype=F64), 3
    a, b = SCHEDULE.alpha_bar[t].sqrt(), SCHEDULE.noise_var[t].sqrt()

    def saying(word, x_hat):
        def eps_hat(z, t):
            return (z - a * x_hat(z, t)) / b

        says = {"x": x_hat, "eps": eps_hat, "v": lambda z, t: a * eps_hat(z, t) - b * x_hat(z, t)}
        return Diffusion(says[word], SCHEDULE, 2, prediction=word).double()

    guesses = [guided(saying(w, SHARP), saying(w, GENTLE), 3.0).data_estimate(z, t) for w in ("x", "eps", "v")]
    assert_close(guesses[1], guesses[0], rtol=1e-10, atol=1e-10)
    assert_close(guesses[2], guesses[0], rtol=1e-10, atol=1e-10)


@catches("""guidance.py: guidance is given everywhere
- (chain.schedule.log_snr >= low) & (chain.schedule.log_snr <= high)
+ (chain.schedule.log_snr >= low) | (chain.schedule.log_snr <= high)""")
def test_the_weaker_model_is_asked_only_within_the_range():
    weak, times = asked(GENTLE)
    low, high = SCHEDULE.log_snr[4].item() - 1e-9, SCHEDULE.log_snr[2].item() + 1e-9
    chain = guided(model(SHARP), model(weak), 2.0, (low, high))
    t = torch.tensor([1, 2, 3, 4, 5])
    z = torch.randn(5, 2, generator=seeded(2), dtype=F64)
    x_hat = chain.data_estimate(z, t)
    assert times == [2, 3, 4]
    plain = model(SHARP).data_estimate(z, t)
    assert torch.equal(x_hat[[0, 4]], plain[[0, 4]])
    assert not torch.isclose(x_hat[1:4], plain[1:4]).any()


@catches("""guidance.py: the ends of the interval are not guided
- (chain.schedule.log_snr >= low) & (chain.schedule.log_snr <= high)
+ (chain.schedule.log_snr > low) & (chain.schedule.log_snr < high)""")
def test_the_ends_of_the_interval_belong_to_it():
    weak, times = asked(GENTLE)
    ends = SCHEDULE.log_snr[4].item(), SCHEDULE.log_snr[2].item()
    guided(model(SHARP), model(weak), 2.0, ends).data_estimate(torch.ones(5, 2, dtype=F64), torch.arange(1, 6))
    assert times == [2, 3, 4]
    by_label, _ = by_class()
    chain, k, z = (
        classifier_free(by_label, 2.0, ends).chain,
        torch.zeros(5, dtype=torch.int64),
        torch.ones(5, 2, dtype=F64),
    )
    moved = chain.data_estimate(z, torch.arange(1, 6), k) != by_label.chain.data_estimate(z, torch.arange(1, 6), k)
    assert moved.any(1).tolist() == [False, True, True, True, False]


def test_a_weight_of_one_is_the_model_itself():
    strong = model(SHARP)
    assert guided(strong, model(GENTLE), 1.0) is strong


def test_a_guided_chain_is_a_chain_that_can_be_respaced_sampled_and_measured():
    chain = guided(model(SHARP), model(GENTLE), 2.0).respaced(2)
    assert chain.depth == 2
    x = ancestral_sample(chain, 3, seeded(3))
    assert chain.elbo_single(x, seeded(4)).isfinite().all()


def test_a_guided_model_keeps_the_better_ones_learned_variance():
    strong, weak = affine_diffusion("optimal", "learned_diag"), affine_diffusion("arbitrary", "learned_diag")
    z = torch.randn(3, 2, generator=seeded(5), dtype=F64)
    down, plain = guided(strong, weak, 2.0).reverse(z, 2), strong.reverse(z, 2)
    assert torch.equal(down.log_var, plain.log_var)
    assert not torch.isclose(down.mean, plain.mean).any()


@catches("""models/diffusion.py: a derived chain has the likelihood of real values
- "variance", "likelihood", "clip")
+ "variance", "clip")""")
def test_a_derived_chain_keeps_every_choice_of_the_model():
    strong, weak = (Diffusion(one, SCHEDULE, 2, "x", "fixed_large", "discretized", (-1, 1)) for one in (SHARP, GENTLE))
    for chain in (guided(strong, weak, 2.0), strong.with_network(GENTLE)):
        for name in ("schedule", "event_shape", "prediction", "variance", "likelihood", "clip"):
            assert getattr(chain, name) == getattr(strong, name), name
    coarse = strong.respaced(2)
    assert (coarse.variance, coarse.likelihood, coarse.event_shape) == ("fixed_large", strong.likelihood, (2,))


def test_a_guess_limited_to_a_range_stays_in_it():
    chain = guided(model(SHARP, clip=(-1.0, 1.0)), model(GENTLE, clip=(-1.0, 1.0)), 50.0)
    x_hat = chain.data_estimate(torch.randn(9, 2, generator=seeded(6), dtype=F64), 2)
    assert x_hat.abs().max() == 1.0


@pytest.mark.parametrize(
    ("weaker", "weight", "log_snr", "words"),
    [
        (model(GENTLE), 0.5, None, "at least 1"),
        (model(GENTLE), float("nan"), None, "at least 1"),
        (model(GENTLE), 2.0, (1.0, -1.0), "must be increasing"),
        (affine_diffusion("optimal", "beta"), 2.0, None, "same quantity"),
        (Diffusion(GENTLE, Schedule.cosine(5), 2, prediction="x"), 2.0, None, "same schedule"),
        (Diffusion(GENTLE, SCHEDULE, (1, 2), prediction="x"), 2.0, None, "of one shape"),
        (model(GENTLE), float("inf"), None, "at least 1"),
    ],
)
@catches("""guidance.py: a weaker model of another shape guides [weaker5-2.0-None-of one shape]
- if not same or chain.event_shape != weaker_chain.event_shape:
+ if not same:""")
@catches("""guidance.py: an infinite weight is taken [weaker6-inf-None-at least 1]
- if not 1 <= weight < math.inf:
+ if not 1 <= weight:""")
def test_guidance_that_makes_no_sense_is_refused(weaker, weight, log_snr, words):
    with pytest.raises(InputError, match=words):
        guided(model(SHARP), weaker, weight, log_snr)


# Classifier-free guidance


def by_class(network=None, **options):
    """A class-conditional chain: class 0 sharp, class 1 gentle, null class between them."""
    middle = gaussian_x_denoiser(SCHEDULE, f64([0.1, 0.3]), torch.eye(2, dtype=F64))

    def denoiser(z, t, cond):
        every = torch.stack([one(z, t) for one in (SHARP, GENTLE, middle)])
        return every[cond, torch.arange(len(z))]

    chain = Diffusion(network or denoiser, SCHEDULE, 2, prediction="x", **options).double()
    return Mixture(chain, Labels(2, (2,), dropout=0.1)), Diffusion(middle, SCHEDULE, 2, prediction="x").double()


@catches("""guidance.py: the unconditional prediction is that of class 0 [3.0]
- torch.full_like(t, self.null)
+ torch.zeros_like(t)""")
@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0])
def test_the_class_is_prolonged_from_the_unconditional_prediction(scale):
    model, unconditional = by_class()
    z, k = torch.randn(6, 2, generator=seeded(7), dtype=F64), torch.tensor([0, 1, 1, 0, 0, 1])
    ours = classifier_free(model, scale).chain.data_estimate(z, 3, k)
    null, known = unconditional.data_estimate(z, 3), model.chain.data_estimate(z, 3, k)
    assert_close(ours, null + scale * (known - null), rtol=1e-12, atol=1e-12)


def test_a_scale_of_one_is_the_conditional_model_itself():
    model, _ = by_class()
    assert classifier_free(model, 1.0) is model


def test_samples_of_a_guided_chain_are_those_of_a_hand_built_one():
    model, unconditional = by_class()
    k = torch.tensor([0, 1, 0])

    def by_hand(z, t, cond):
        null = unconditional.data_estimate(z, t)
        return null + 2.5 * (model.chain.data_estimate(z, t, cond) - null)

    built = Diffusion(by_hand, SCHEDULE, 2, prediction="x").double()
    ours = sample(classifier_free(model, 2.5), cond=k, seed=4, steps=3)
    assert_close(ours, sample(built, cond=k, seed=4, steps=3), rtol=0, atol=1e-10)


def test_sample_i_depends_on_the_seed_and_i_alone_with_labels_as_well():
    guided_chain = classifier_free(by_class()[0], 2.0)
    k = torch.tensor([0, 1, 1, 0, 1])
    whole = sample(guided_chain, cond=k, seed=8, steps=3)
    assert_close(sample(guided_chain, cond=k[3:], seed=8, steps=3, first=3), whole[3:], rtol=0, atol=1e-12)


def test_classifier_free_guidance_is_limited_to_its_interval():
    model, _ = by_class()
    low, high = SCHEDULE.log_snr[4].item() - 1e-9, SCHEDULE.log_snr[2].item() + 1e-9
    chain = classifier_free(model, 2.0, (low, high)).chain
    z, k = torch.randn(5, 2, generator=seeded(2), dtype=F64), torch.tensor([0, 1, 0, 1, 0])
    t = torch.tensor([1, 2, 3, 4, 5])
    ours, plain = chain.data_estimate(z, t, k), model.chain.data_estimate(z, t, k)
    assert torch.equal(ours[[0, 4]], plain[[0, 4]])
    assert not torch.isclose(ours[1:4], plain[1:4]).any()


def test_both_kinds_of_guidance_combine():
    model, _ = by_class()
    weaker = Mixture(
        model.chain.with_network(lambda z, t, cond: 0.5 * model.chain.predict(z, t, cond)[0]), model.classes
    )
    z, k = torch.randn(4, 2, generator=seeded(3), dtype=F64), torch.tensor([0, 1, 0, 1])

    def auto(cond):
        ours, theirs = (one.chain.data_estimate(z, 3, cond) for one in (model, weaker))
        return theirs + 1.5 * (ours - theirs)

    both = classifier_free(guided(model, weaker, 1.5), 2.0).chain.data_estimate(z, 3, k)
    null = auto(torch.full_like(k, 2))
    assert_close(both, null + 2.0 * (auto(k) - null), rtol=1e-12, atol=1e-12)


def test_the_bound_of_a_guided_chain_is_measured_and_worse():
    model, _ = by_class()
    x = f64([0.4, -0.2]) + 0.5**0.5 * torch.randn(4000, 2, generator=seeded(5), dtype=F64)
    k = torch.zeros(len(x), dtype=torch.int64)
    plain, strong = (one.chain.elbo_single(x, seeded(6), cond=k) for one in (model, classifier_free(model, 3.0)))
    assert strong.mean() < plain.mean() - 0.1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: classifier_free(by_class()[0], -1.0), "at least 0"),
        (lambda: classifier_free(by_class()[0], float("inf")), "at least 0"),
        (lambda: classifier_free(by_class()[0], 2.0, (1.0, -1.0)), "must be increasing"),
        (lambda: classifier_free(Mixture(by_class()[0].chain, 2), 2.0), "label dropout"),
    ],
)
def test_classifier_free_guidance_that_makes_no_sense_is_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()


@catches("""run/sampling.py: classifier-free guidance of a run leaves its interval
- return classifier_free(chain, 1.0 if guidance is None else guidance, config.guidance_range)
+ return classifier_free(chain, 1.0 if guidance is None else guidance, None)""")
def test_a_run_of_labels_is_guided_in_the_interval_of_its_recipe():
    low, high = SCHEDULE.log_snr[4].item() - 1e-9, SCHEDULE.log_snr[2].item() + 1e-9
    model, _ = by_class()
    policy = SamplingPolicy(model, None, Recipe("r", "", DiffusionConfig(guidance_range=(low, high))))
    z, k = torch.randn(5, 2, generator=seeded(2), dtype=F64), torch.tensor([0, 1, 0, 1, 0])
    t = torch.tensor([1, 2, 3, 4, 5])
    found = policy.chain(guidance=2.0).chain.data_estimate(z, t, k)
    assert_close(found, classifier_free(model, 2.0, (low, high)).chain.data_estimate(z, t, k))
    assert not torch.isclose(found, classifier_free(model, 2.0).chain.data_estimate(z, t, k)).all()


@catches("""guidance.py: guided examples of a batch get the classes of others
- known = None if cond is None else cond[rows]
+ known = None if cond is None else cond[: len(rows)]""")
def test_within_the_interval_each_example_is_guided_by_its_own_class():
    model, weaker = by_class()[0], by_class(lambda z, t, cond: 0.1 * (cond[:, None] + 1) * z)[0]
    low, high = SCHEDULE.log_snr[4].item() - 1e-9, SCHEDULE.log_snr[2].item() + 1e-9
    z, k = torch.randn(5, 2, generator=seeded(2), dtype=F64), torch.tensor([0, 1, 0, 1, 0])
    t = torch.tensor([1, 2, 3, 4, 5])
    strong, weak = model.chain.data_estimate(z, t, k), weaker.chain.data_estimate(z, t, k)
    found = guided(model, weaker, 2.0, (low, high)).chain.data_estimate(z, t, k)
    assert_close(found[1:4], (weak + 2.0 * (strong - weak))[1:4])
