"""Targets averaged over all that a noised example could have come from (Xu et al. 2023): exact in a world of few points."""

import dataclasses
import math
from typing import get_args

import pytest
import torch

from kakusan.diffusion import Diffusion, Prediction
from kakusan.model import TrainedModel
from kakusan.noise import stream
from kakusan.recipes.build import build, references_of, training_loss
from kakusan.recipes.config import DiffusionConfig, Recipe
from kakusan.schedule import Schedule
from kakusan.stable import MOST_NUMBERS, References, most_references, noisiest
from kakusan.steps import StepLaw

DEPTH = 30
POINTS = torch.tensor([[-0.9, 0.3], [0.4, 0.8], [0.1, -0.7], [0.7, -0.2]], dtype=torch.float64)


@pytest.fixture(autouse=True)
def in_float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def mean_by_hand(z, x, others, a, var):
    """Bayes' theorem, number by number."""
    candidates = [x, *others]
    likelihoods = [math.exp(-sum((zi - a * ci) ** 2 for zi, ci in zip(z, c)) / (2 * var)) for c in candidates]
    return [sum(w * c[k] for w, c in zip(likelihoods, candidates)) / sum(likelihoods) for k in range(len(z))]


def chain(denoiser, prediction="v"):
    return Diffusion(denoiser, Schedule.cosine(DEPTH), (2,), prediction=prediction)


def test_the_mean_is_that_of_bayes_theorem():
    z, x = torch.randn(5, 2, generator=stream("z")), torch.randn(5, 2, generator=stream("x"))
    a = torch.linspace(0.1, 0.95, 5)[:, None]
    found = References(POINTS).posterior_mean(z, x, a, 1 - a**2)
    for row in range(5):
        signal = a[row].item()
        wanted = mean_by_hand(z[row].tolist(), x[row].tolist(), POINTS.tolist(), signal, 1 - signal**2)
        torch.testing.assert_close(found[row], torch.tensor(wanted), rtol=1e-12, atol=1e-12)  # float64 rounds at 1e-16


def test_without_noise_an_example_is_itself_to_the_bit():
    x = torch.randn(4, 3, generator=stream("x"))
    a = torch.full((4, 1), 0.999999)
    z = a * x
    assert torch.equal(References(x + 3).posterior_mean(z, x, a, 1 - a**2), x)


def test_pure_noise_leaves_the_mean_of_all():
    x = torch.randn(1, 2, generator=stream("x"))
    found = References(POINTS).posterior_mean(torch.randn(1, 2), x, torch.zeros(1, 1), torch.ones(1, 1))
    torch.testing.assert_close(found[0], torch.cat([x, POINTS]).mean(0))


def test_the_batch_keeps_its_shape():
    x = torch.randn(3, 1, 4, 4)
    found = References(torch.randn(7, 1, 4, 4)).posterior_mean(
        x, x, torch.full((3, 1, 1, 1), 0.5), torch.ones(3, 1, 1, 1)
    )
    assert found.shape == x.shape


@pytest.mark.parametrize("prediction", get_args(Prediction))
def test_where_the_references_are_the_whole_world_the_best_network_has_no_loss_left(prediction):
    """The points are all that the data can be, so what the best network says of z_t is its target, whichever was drawn."""

    def best(z, t):
        a, var = model._at("alpha_bar", t, z).sqrt(), model._at("noise_var", t, z)
        x_hat = World.posterior_mean(z, z, a, var)
        return model._target(x_hat, z, (z - a * x_hat) / var.sqrt(), t)

    class World:
        @staticmethod
        def posterior_mean(z, own, signal, noise_var):
            """Of the points alone: no noised example counts twice."""
            log_p = -(z[:, None] - signal[:, None] * POINTS).square().sum(2) / (2 * noise_var)
            return log_p.softmax(1) @ POINTS

    model = chain(best, prediction)
    x = POINTS[torch.arange(200) % 4]
    plain = model.loss(x, stream("step"))
    averaged = model.loss(x, stream("step"), references=World)
    assert averaged.max() < 1e-12  # squares of float64's rounding, divided by noise down to a thousandth twice
    assert plain.mean() > 1e-3  # what is left is the target's own wavering


def test_the_gradient_points_on_average_where_it_did():
    """400 batches of one noise level each way: the difference of the mean gradients is within 5 standard errors.

    By chance 1 in 1.7 million for each of two numbers.
    """
    weight = torch.nn.Parameter(torch.tensor([0.3, -0.1]))
    model = chain(lambda z, t: z * weight)
    law = StepLaw(torch.nn.functional.one_hot(torch.tensor(24), DEPTH).double())
    many = References(POINTS.repeat(500, 1))  # so many that the noised one's own place among them is nothing
    differences = []
    for step in range(400):
        x = POINTS[torch.randint(4, (64,), generator=stream("x", step))]
        grads = []
        for references in (None, many):
            (grad,) = torch.autograd.grad(model.loss(x, stream(step), law=law, references=references).mean(), weight)
            grads.append(grad)
        differences.append(grads[1] - grads[0])
    found = torch.stack(differences)
    assert found.std(0).min() > 1e-4  # they are not the same gradients
    assert (found.mean(0).abs() < 5 * found.std(0) / 20).all()


def test_only_the_noisiest_are_asked_about_and_as_many_as_the_law_leaves_open():
    schedule, law = Schedule.cosine(1000), StepLaw.uniform(1000)
    t = law.draw(64, stream("t"))
    rows = noisiest(t, law, schedule, 784)
    open_ones = (784 * schedule.log_snr[1:].exp() < 128).double().mean().item()
    assert len(rows) == math.ceil(64 * open_ones)
    assert t[rows].min() > t[[k for k in range(64) if k not in rows.tolist()]].max() - 1
    assert 784 * schedule.log_snr[t[rows].min() + 16].exp() < 128  # 16 is a stratum of 64
    assert len(noisiest(t, law, schedule, 1)) > len(rows)  # fewer dimensions tell less
    near = StepLaw.log_snr_normal(schedule, 8.0, 0.1)
    assert len(noisiest(near.draw(64, stream("t")), near, schedule, 784)) == 0


def test_the_rest_of_the_batch_has_the_loss_that_it_had():
    model = Diffusion(lambda z, t: 0.1 * z, Schedule.cosine(1000), (1, 28, 28), prediction="v")
    x = torch.rand(32, 1, 28, 28) * 2 - 1
    plain = model.loss(x, stream("step"))
    averaged = model.loss(x, stream("step"), references=References(torch.rand(100, 1, 28, 28) * 2 - 1))
    same = plain == averaged
    assert same.sum() == 32 - len(
        noisiest(StepLaw.uniform(1000).draw(32, stream("step")), StepLaw.uniform(1000), model.schedule, 784)
    )
    assert (averaged[~same] < plain[~same]).all()


def test_references_are_of_the_training_part_and_the_same_in_every_run():
    config = DiffusionConfig(depth=20, width=8, inner_width=16, blocks=1, references=30)
    data = torch.randint(256, (100, 1, 8, 8), dtype=torch.uint8)
    module = build(config, (1, 8, 8))
    one, two = (references_of(module, config, data, "none") for _ in range(2))
    assert one is not None
    assert two is not None
    assert torch.equal(one.examples, two.examples)
    assert len({tuple(row.tolist()) for row in one.examples}) == 30
    rows = {tuple(row) for row in (data.flatten(1).double() / 255 * 2 - 1).tolist()}
    close = [min(max(abs(p - q) for p, q in zip(row, other)) for other in rows) for row in one.examples.tolist()]
    assert max(close) < 1e-6  # a picture is float32
    moved = references_of(module, config, data, "shift")
    assert moved is not None
    assert not torch.equal(moved.examples, one.examples)


def test_references_are_no_more_than_there_are_examples_or_room():
    config = DiffusionConfig(depth=20, width=8, inner_width=16, blocks=1, references=5000)
    module = build(config, (1, 8, 8))
    few = references_of(module, config, torch.zeros(7, 1, 8, 8, dtype=torch.uint8), "none")
    assert few is not None
    assert len(few.examples) == 7
    assert most_references(784) * 784 <= MOST_NUMBERS
    assert most_references(10**9) == 1


@pytest.mark.parametrize("change", [{"references": 0}, {"objective": "single"}])
def test_without_references_or_the_simple_loss_nothing_is_kept(change):
    config = dataclasses.replace(DiffusionConfig(depth=20, width=8, inner_width=16, blocks=1, references=30), **change)
    assert references_of(build(config, (1, 8, 8)), config, torch.zeros(7, 1, 8, 8, dtype=torch.uint8), "none") is None


def test_a_learned_variance_is_taught_by_what_was_noised():
    """The bound's part of the loss is of x itself: with the mean in its place it would be no bound."""
    config = DiffusionConfig(depth=20, width=8, inner_width=16, blocks=1, variance="learned", references=16)
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
