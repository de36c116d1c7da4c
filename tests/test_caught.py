"""Checks that a planted fault has shown to be missing; the faults are in mutants.py."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from harness.faults import catches
from harness.support import F64, SMALL_BETAS, f64, seeded
from kakusan.data.dataset import from_arrays
from kakusan.data.scale import SIGNED, UNIT
from kakusan.models.diffusion import Diffusion
from kakusan.schedule import Schedule
from kakusan.timesteps import StepLaw
from kakusan.train.loop import Trainer
from kakusan.train.muon import Muon
from kakusan.train.optimizers import Optimizers
from kakusan.train.settings import Budget, Optim

SHARES = f64([0.5, 0.25, 0.15, 0.07, 0.03])  # of five steps, drawn very unevenly


@catches(
    "timesteps.py",
    "return self._on(t.device)[0][t - 1]",
    "return self._on(t.device)[0][t - 2]",
    "the probability of a step is that of the step before",
)
def test_the_probability_of_a_step_is_that_with_which_it_is_drawn():
    law = StepLaw(SHARES)
    t = torch.tensor([1, 2, 3, 4, 5, 1])
    assert torch.equal(law.prob(t), SHARES[[0, 1, 2, 3, 4, 0]])
    counts = torch.bincount(law.draw(1000, seeded(0)), minlength=6)[1:]
    assert (counts - 1000 * law.prob(t[:5])).abs().max() <= 1  # a boundary stratum may fall to either side


@catches(
    "models/diffusion.py",
    " / law.prob(t).to(x.dtype)",
    " * self.depth",
    "the bound beside the simple loss forgets how often its step is drawn",
)
def test_the_bound_beside_the_simple_loss_makes_up_for_how_often_its_step_is_drawn():
    asked = []

    def network(z, t):
        asked.append((z, t))
        return 0.3 * z

    schedule, x = Schedule.from_betas(SMALL_BETAS), torch.randn(200, 2, generator=seeded(0), dtype=F64)
    simple = Diffusion(network, schedule, 2).double()
    both = Diffusion(lambda z, t: (network(z, t), torch.full_like(z, 0.4)), schedule, 2, variance="learned").double()
    beside = both.loss(x, seeded(1), law=StepLaw(SHARES)) - simple.loss(x, seeded(1), law=StepLaw(SHARES))
    z_t, t = asked[0]
    assert set(t.tolist()) == {1, 2, 3, 4, 5}
    # a thousandth of T times the bound at a step drawn evenly (Nichol and Dhariwal 2021), in units of a dimension
    expected = 1e-3 * both.step_cost(x, z_t, t) / SHARES[t - 1] / 2
    assert_close(beside, expected, rtol=1e-10, atol=1e-14)  # a difference of losses of order one


def near_one(value, norm):
    """What Muon's iteration makes of a singular value of a matrix of this norm: a matrix with entries on its diagonal
    alone keeps them there, and each is a number of its own."""
    s = value / (norm + 1e-7)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return s


@catches("train/muon.py", "whole(gradient.lerp(mean, momentum))", "whole(mean)", "Muon looks no step ahead")
@catches(
    "train/muon.py",
    'mul_(1 - moves * (group["lr"]',
    'mul_(1 + moves * (group["lr"]',
    "the weight decay of Muon lets weights grow",
)
@catches("train/muon.py", " * max(1.0, rows / columns) ** 0.5", "", "Muon's steps are as long for tall matrices")
@catches(
    "train/muon.py",
    "factor.diagonal(dim1=1, dim2=2).add_(a)",
    "factor.diagonal(dim1=1, dim2=2).add_(a - 1)",
    "the smaller square forgets a term",
)
def test_muon_takes_the_steps_of_its_definition():
    lr, decay, momentum = 0.1, 0.2, 0.9
    weight = nn.Parameter(torch.zeros(4, 2, dtype=F64))
    expected, mean = [2.0, -1.0], [0.0, 0.0]
    weight.data[0, 0], weight.data[1, 1] = expected
    muon = Muon([weight], lr=lr, momentum=momentum, weight_decay=decay)
    for gradient in [(3.0, 1.0), (-1.0, 2.0), (0.5, 0.5)]:
        weight.grad = torch.zeros_like(weight)
        weight.grad[0, 0], weight.grad[1, 1] = gradient
        muon.step()
        mean = [momentum * m + (1 - momentum) * g for m, g in zip(mean, gradient)]
        ahead = [momentum * m + (1 - momentum) * g for m, g in zip(mean, gradient)]  # Nesterov's
        norm = math.hypot(*ahead)
        # twice as many rows as columns: steps are sqrt(2) times as long
        expected = [w * (1 - lr * decay) - lr * math.sqrt(2) * near_one(a, norm) for w, a in zip(expected, ahead)]
        assert_close(weight.detach()[[0, 1], [0, 1]], f64(expected), rtol=1e-10, atol=0)
    assert weight.count_nonzero() == 2


@catches(
    "train/optimizers.py",
    "betas=settings.betas, weight_decay=settings.weight_decay",
    "betas=settings.betas, weight_decay=0.0",
    "AdamW decays no weights",
)
@catches("train/optimizers.py", "betas=settings.betas, ", "", "AdamW has the memories that torch gives it")
def test_adamw_takes_the_steps_of_its_definition_with_the_settings_that_were_given():
    lr, decay, (short, long) = 0.1, 0.2, (0.8, 0.9)
    module = nn.Linear(1, 1, bias=False).double()
    optimizers = Optimizers(module, Optim(lr=lr, weight_decay=decay, betas=(short, long)))
    module.weight.data.fill_(2.0)
    expected, mean, square = 2.0, 0.0, 0.0
    for step, (gradient, scale) in enumerate([(3.0, 0.5), (-1.0, 1.0), (0.5, 0.25)], start=1):
        module.weight.grad = f64([[gradient]])
        optimizers.step(scale)
        mean, square = short * mean + (1 - short) * gradient, long * square + (1 - long) * gradient**2
        towards = mean / (1 - short**step) / (math.sqrt(square / (1 - long**step)) + 1e-8)
        expected = expected * (1 - scale * lr * decay) - scale * lr * towards
        assert module.weight.item() == pytest.approx(expected, rel=1e-10)


@catches(
    "train/optimizers.py",
    'group["lr"] = peak * scale',
    'group["lr"] = self._all[0][1] * scale',
    "hidden matrices move at the learning rate of the rest",
)
def test_hidden_matrices_move_at_a_learning_rate_of_their_own():
    module = nn.Linear(1, 1).double()
    module.hidden_matrices = lambda: [module.weight]
    optimizers = Optimizers(module, Optim(method="muon", lr=0.1, matrix_lr=0.03, weight_decay=0.0))
    before = module.weight.item(), module.bias.item()
    module.weight.grad, module.bias.grad = f64([[1.0]]), f64([1.0])
    optimizers.step(0.5)
    # the first step of Adam is as long as its learning rate, but for 1e-8 in a denominator of 1
    assert before[1] - module.bias.item() == pytest.approx(0.5 * 0.1, rel=1e-6)
    # what Muon normalises is 0.0975 of the gradient, beside which its 1e-7 is 1e-6
    assert before[0] - module.weight.item() == pytest.approx(0.5 * 0.03 * near_one(1.0, 1.0), rel=1e-5)


@catches(
    "train/loop.py",
    "(self.settings.clip / (norm + 1e-6)).clamp(max=1.0)",
    "1.0",
    "gradients are not cut",
    case="0.5-0.5",
)
@pytest.mark.parametrize(("clip", "norm"), [(0.5, 0.5), (None, 50.0)])
def test_a_gradient_is_cut_to_the_norm_that_was_asked_for(clip, norm):
    module, norms = nn.Linear(2, 1, bias=False), []

    def loss(indices, randomness):
        return module(torch.tensor([[30.0, 40.0]])).expand(len(indices), 1)[:, 0]

    trainer = Trainer(module, loss, 8, Optim(batch=4, clip=clip), Budget(steps=1), 0, torch.device("cpu"))
    trainer.optimizers.step = lambda scale, skip=None: norms.append(module.weight.grad.norm().item())
    trainer.run([1.0], lambda trainer: None, lambda trainer: None)
    assert norms == [pytest.approx(norm, rel=1e-5)]  # float32, and 1e-6 in a denominator


@catches(
    "train/loop.py",
    'stream(self.seed, "step", salt, step, group, device=self.device)',
    'stream(self.seed, "step", salt, group, device=self.device)',
    "every step has the same noise",
)
@catches(
    "train/loop.py",
    'stream(self.seed, "step", salt, step, group, device=self.device)',
    'stream("step", salt, step, group, device=self.device)',
    "every seed has the same noise",
)
def test_every_step_has_noise_of_its_own_by_seed_and_number():
    def noise(seed):
        module, heard = nn.Linear(1, 1), []

        def loss(indices, randomness):
            heard.append(torch.rand((), generator=randomness).item())
            return module(torch.ones(len(indices), 1))[:, 0].square()

        trainer = Trainer(module, loss, 8, Optim(batch=4), Budget(steps=5), seed, torch.device("cpu"))
        assert trainer.run([1.0], lambda trainer: None, lambda trainer: None)
        return heard

    assert noise(0) == noise(0)
    assert len({*noise(0), *noise(1)}) == 10


@catches("data/scale.py", "TOP = 255", "TOP = 256", "pixels run to 256")
@pytest.mark.parametrize("scale", [SIGNED, UNIT])
def test_black_and_white_are_the_ends_of_a_scale_and_levels_one_bin_apart(scale):
    levels = scale.to_model(torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)).flatten()
    assert levels[0] == scale.low
    assert levels[-1] == scale.high
    assert scale.bin_width == pytest.approx((scale.high - scale.low) / 255, rel=1e-15)
    assert_close(levels.diff(), torch.full((255,), scale.bin_width), rtol=0, atol=1e-6)  # float32 near one


@catches("data/scale.py", ".round().clamp(0, TOP)", ".round()", "values beyond white come back dark")
@pytest.mark.parametrize("scale", [SIGNED, UNIT])
def test_values_beyond_black_and_white_become_black_and_white(scale):
    width = scale.high - scale.low
    beyond = torch.tensor([scale.low - width / 4, scale.high + width / 4]).view(1, 1, 1, 2)
    assert scale.to_pixels(beyond).flatten().tolist() == [0, 255]


@catches(
    "data/dataset.py",
    "for part in (self.train, self.test):",
    "for part in (self.train,):",
    "the digest of the data does not see what is held out",
)
@catches(
    "data/dataset.py",
    "digest.update(repr((tuple(part.shape), str(part.dtype))).encode())",
    "pass",
    "the digest of the data does not see its shape",
)
def test_the_digest_of_the_data_is_of_both_parts_and_of_their_shapes():
    def digest(train, test):
        return from_arrays("x", "counts", torch.tensor(train), torch.tensor(test)).digest()

    first = digest([[1, 2], [3, 4]], [[5, 6]])
    assert first == digest([[1, 2], [3, 4]], [[5, 6]])
    others = [
        digest([[1, 2], [3, 5]], [[5, 6]]),
        digest([[1, 2], [3, 4]], [[5, 7]]),
        digest([[1, 2]], [[3, 4], [5, 6]]),  # the same bytes in the same order, cut elsewhere
        digest([[1], [2], [3], [4]], [[5], [6]]),
    ]
    assert len({first, *others}) == 5
