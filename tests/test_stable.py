"""Targets averaged over all that a noised example could have come from (Xu et al. 2023): exact in a world of few points."""

import dataclasses
import math
from typing import get_args

import pytest
import torch

from kakusan.diffusion import Diffusion, Prediction
from kakusan.model import TrainedModel
from kakusan.noise import stream
from kakusan.recipes.build import build, references_of, step_law, training_loss
from kakusan.recipes.config import DiffusionConfig, Recipe
from kakusan.schedule import Schedule
from kakusan.stable import FEWEST, MOST_NUMBERS, POOL, References, num_references
from kakusan.steps import StepLaw

DEPTH = 30
POINTS = torch.tensor([[-0.9, 0.3], [0.4, 0.8], [0.1, -0.7], [0.7, -0.2]], dtype=torch.float64)


@pytest.fixture(autouse=True)
def in_float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def mean_by_hand(z, candidates, a, var):
    """Bayes' theorem, number by number."""
    likelihoods = [math.exp(-sum((zi - a * ci) ** 2 for zi, ci in zip(z, c)) / (2 * var)) for c in candidates]
    return [sum(w * c[k] for w, c in zip(likelihoods, candidates)) / sum(likelihoods) for k in range(len(z))]


def references(examples, schedule=None, window=None, law=None, whole=False):
    schedule = schedule or Schedule.cosine(DEPTH)
    law = law or StepLaw.uniform(schedule.depth)
    return References(examples, window or len(examples), law, schedule, whole)


def chain(denoiser, prediction="v"):
    return Diffusion(denoiser, Schedule.cosine(DEPTH), (2,), prediction=prediction)


def test_the_mean_is_that_of_bayes_theorem():
    z, x = torch.randn(5, 2, generator=stream("z")), torch.randn(5, 2, generator=stream("x"))
    a = torch.linspace(0.1, 0.95, 5)[:, None]
    for whole in (False, True):
        found = references(POINTS, whole=whole).posterior_mean(z, x, a, 1 - a**2)
        for row in range(5):
            signal = a[row].item()
            candidates = POINTS.tolist() if whole else [x[row].tolist(), *POINTS.tolist()]
            wanted = mean_by_hand(z[row].tolist(), candidates, signal, 1 - signal**2)
            torch.testing.assert_close(
                found[row], torch.tensor(wanted), rtol=1e-12, atol=1e-12
            )  # float64 rounds at 1e-16


def test_without_noise_an_example_is_itself_to_the_bit():
    x = torch.randn(4, 3, generator=stream("x"))
    a = torch.full((4, 1), 0.999999)
    assert torch.equal(references(x + 3).posterior_mean(a * x, x, a, 1 - a**2), x)


def test_pure_noise_leaves_the_mean_of_all():
    x = torch.randn(1, 2, generator=stream("x"))
    z = torch.randn(1, 2, generator=stream("z"))
    found = references(POINTS).posterior_mean(z, x, torch.zeros(1, 1), torch.ones(1, 1))
    torch.testing.assert_close(found[0], torch.cat([x, POINTS]).mean(0))


def test_the_batch_keeps_its_shape():
    x = torch.randn(3, 1, 4, 4, generator=stream("x"))
    others = references(torch.randn(7, 1, 4, 4, generator=stream("others")))
    assert others.posterior_mean(x, x, torch.full((3, 1, 1, 1), 0.5), torch.ones(3, 1, 1, 1)).shape == x.shape


@pytest.mark.parametrize("prediction", get_args(Prediction))
def test_where_the_references_are_the_whole_world_the_best_network_has_no_loss_left(prediction):
    """The points are all that the data can be, so what the best network says of z_t is its target, whichever was drawn."""

    def best(z, t):
        a, var = model._at("alpha_bar", t, z).sqrt(), model._at("noise_var", t, z)
        x_hat = (-(z[:, None] - a[:, None] * POINTS).square().sum(2) / (2 * var)).softmax(1) @ POINTS
        return model._target(x_hat, z, (z - a * x_hat) / var.sqrt(), t)

    model = chain(best, prediction)
    x = POINTS[torch.arange(200) % 4]
    plain = model.loss(x, stream("step"))
    averaged = model.loss(x, stream("step"), references=references(POINTS, whole=True))
    assert averaged.max() < 1e-12  # squares of float64's rounding, divided by noise down to a thousandth twice
    assert plain.mean() > 1e-3  # what is left is the target's own wavering


def test_the_target_is_on_average_over_what_was_noised_and_what_was_seen_the_mean_of_all():
    """All four that could have been noised, by their chances given z, with windows of 1,000 of 4,000 draws of them.

    1,000 draws of four points leave a standard error of about 0.03 times a share of wavering in each window; of 200 windows 0.003.
    """
    z, a = torch.tensor([[0.2, 0.1]]), torch.full((1, 1), 0.4)
    var = 1 - a**2
    chances = (-(z - a * POINTS).square().sum(1) / (2 * var[0])).softmax(0)
    pool = references(POINTS[torch.randint(4, (4000,), generator=stream("pool"))], window=1000)
    found = sum(
        chances[k] * pool.posterior_mean(z, POINTS[k : k + 1], a, var, stream("window", k, step)) / 200
        for k in range(4)
        for step in range(200)
    )
    torch.testing.assert_close(found[0], chances @ POINTS, rtol=0, atol=0.02)


def test_the_gradient_points_on_average_where_it_did():
    """400 batches of one noise level each way: the difference of the mean gradients is within 5 standard errors.

    By chance 1 in 1.7 million for each of two numbers; nothing is left to chance, the streams are fixed.
    """
    weight = torch.nn.Parameter(torch.tensor([0.3, -0.1]))
    model = chain(lambda z, t: z * weight)
    law = StepLaw(torch.nn.functional.one_hot(torch.tensor(24), DEPTH).double())
    world = references(POINTS, law=law, whole=True)
    differences = []
    for step in range(400):
        x = POINTS[torch.randint(4, (64,), generator=stream("x", step))]
        grads = []
        for others in (None, world):
            (grad,) = torch.autograd.grad(model.loss(x, stream(step), law=law, references=others).mean(), weight)
            grads.append(grad)
        differences.append(grads[1] - grads[0])
    found = torch.stack(differences)
    assert found.std(0).min() > 1e-4  # they are not the same gradients
    assert (found.mean(0).abs() < 5 * found.std(0) / 20).all()


def test_only_the_noisiest_are_asked_about_and_as_many_as_the_law_leaves_open():
    schedule, law = Schedule.cosine(1000), StepLaw.uniform(1000)
    t = law.draw(64, stream("t"))
    rows = references(torch.zeros(2, 784), schedule).rows(t)
    left_open = (784 * schedule.log_snr[1:].exp() < 128).double().mean().item()
    assert len(rows) == math.ceil(64 * left_open)
    assert t[rows].min() >= t[[k for k in range(64) if k not in rows.tolist()]].max()
    assert 784 * schedule.log_snr[t[rows].min() + 16].exp() < 128  # 16 is a stratum of 64
    assert len(references(torch.zeros(2, 1), schedule).rows(t)) > len(rows)  # fewer dimensions tell less
    near = StepLaw.log_snr_normal(schedule, 8.0, 0.1)
    assert len(references(torch.zeros(2, 784), schedule, law=near).rows(near.draw(64, stream("t")))) == 0


def test_the_rest_of_the_batch_has_the_loss_that_it_had():
    schedule = Schedule.cosine(1000)
    model = Diffusion(lambda z, t: 0.1 * z, schedule, (1, 28, 28), prediction="v")
    pictures = torch.rand(132, 1, 28, 28, generator=stream("pictures")) * 2 - 1
    x, others = pictures[:32], references(pictures[32:], schedule)
    plain, averaged = model.loss(x, stream("step")), model.loss(x, stream("step"), references=others)
    t = StepLaw.uniform(1000).draw(32, stream("step"))
    asked = torch.zeros(32, dtype=torch.bool).index_fill(0, others.rows(t), True)
    assert torch.equal(averaged[~asked], plain[~asked])
    wide_open = 784 * schedule.log_snr[t].exp() < 40
    assert wide_open.sum() > 2
    assert (averaged < plain)[wide_open].all()


def test_each_step_sees_others_and_the_same_step_the_same():
    pool = references(torch.arange(40.0)[:, None], window=10)
    one, again, other = (pool.seen(stream("step", key))[0] for key in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    firsts = {pool.seen(stream("step", key))[0][0].item() for key in range(1000)}
    assert firsts == set(range(31))  # each of 31 places is missed with probability 6e-15
    seen, half_squares = pool.seen([stream("a"), stream("b")])
    assert torch.equal(half_squares, seen[:, 0] ** 2 / 2)


def small(**settings):
    return DiffusionConfig(depth=20, width=8, inner_width=16, blocks=1, **settings)


def referred(config, data, augment="none"):
    found = references_of(build(config, tuple(data.shape[1:])), config, data, step_law(config), augment)
    assert found is not None
    return found


def test_references_are_of_the_training_part_and_the_same_in_every_run():
    config = small(references=1000)
    data = torch.randint(256, (20_000, 1, 8, 8), generator=stream("data"), dtype=torch.uint8)
    one, two = referred(config, data), referred(config, data)
    assert torch.equal(one.pool, two.pool)
    assert one.pool.shape == (POOL * 1000, 64)
    assert one.window == 1000
    assert not one.whole
    levels = {tuple(row) for row in data.flatten(1).tolist()}
    assert len({tuple(row) for row in ((one.pool + 1) / 2 * 255).round().int().tolist()} & levels) == POOL * 1000
    assert not torch.equal(referred(config, data, "shift").pool, one.pool)


def test_where_there_are_few_examples_they_are_all_references_and_the_noised_one_counts_once():
    data = torch.randint(256, (7, 1, 8, 8), generator=stream("data"), dtype=torch.uint8)
    assert referred(small(references=5000), data).whole
    assert not referred(small(references=5000), data, "shift").whole  # a moved one is none of them
    assert len(referred(small(references=5000), data).pool) == 7


def test_there_are_as_many_as_are_wanted_and_affordable_or_none():
    assert num_references(4096, 60_000, 784) == 4096
    assert num_references(60_000, 60_000, 784) * 784 <= MOST_NUMBERS
    assert num_references(4096, 60_000, 3 * 64 * 64) == 0  # a few hundred are no law
    assert num_references(4096, 60_000, MOST_NUMBERS // FEWEST) == FEWEST
    assert num_references(4096, 300, 3 * 64 * 64) == 300  # all that there are
    assert num_references(0, 300, 784) == 0


@pytest.mark.parametrize("change", [{"references": 0}, {"objective": "single"}])
def test_without_references_or_the_simple_loss_nothing_is_kept(change):
    config = small(**{"references": 30, **change})
    data = torch.zeros(7, 1, 8, 8, dtype=torch.uint8)
    assert references_of(build(config, (1, 8, 8)), config, data, step_law(config), "none") is None


def test_a_learned_variance_is_taught_by_what_was_noised():
    """The bound's part of the loss is of x itself: with the mean in its place it would be no bound."""
    config = small(variance="learned", references=64)
    torch.set_default_dtype(torch.float32)  # as pictures are
    torch.manual_seed(0)
    module = build(config, (1, 8, 8))
    data = torch.randint(256, (64, 1, 8, 8), generator=stream("data"), dtype=torch.uint8)
    gate = dict(module.named_parameters())["denoiser.last.bias"]
    grads = []
    for one in (config, dataclasses.replace(config, references=0)):
        loss = training_loss(module, one, data)(torch.arange(16), stream("step")).mean()
        (grad,) = torch.autograd.grad(loss, gate)
        grads.append(grad[len(grad) // 2 :])
    assert grads[0].abs().min() > 0
    torch.testing.assert_close(*grads, rtol=1e-5, atol=0)  # float32's rounding of sums of a thousand numbers


def test_samples_end_where_the_recipe_says():
    torch.set_default_dtype(torch.float32)
    config = DiffusionConfig(width=8, inner_width=16, blocks=1, guidance_range=(-2.0, 1.0))
    recipe = Recipe("r", "", dataclasses.replace(config, end_log_snr=3.0))
    module = build(config, (1, 8, 8))
    ended = TrainedModel(recipe, module, (1, 8, 8), torch.device("cpu")).sampling_chain()
    plain = TrainedModel(Recipe("r", "", config), module, (1, 8, 8), torch.device("cpu")).sampling_chain()
    assert abs(ended.schedule.log_snr[1].item() - 3.0) < 0.02  # a step of the chain
    assert abs(plain.schedule.log_snr[1].item() - 2 * math.log(20)) < 0.04
    told = TrainedModel(recipe, module, (1, 8, 8), torch.device("cpu")).sampling_chain(end_log_snr=2.0)
    assert abs(told.schedule.log_snr[1].item() - 2.0) < 0.02
