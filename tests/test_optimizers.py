"""The steps of Muon and AdamW, learning rates by group, and gradient clipping, against their definitions."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from harness.faults import catches
from harness.support import F64, f64, seeded
from kakusan.errors import InputError
from kakusan.training import muon
from kakusan.training.loop import Trainer
from kakusan.training.muon import Muon, orthogonalized
from kakusan.training.optimizers import Optimizers
from kakusan.training.settings import Budget, Optim


def near_one(value, norm):
    """What Muon's iteration makes of a singular value of a matrix of this norm: a matrix with entries on its diagonal
    alone keeps them there, and each is a number of its own."""
    s = value / (norm + 1e-7)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return s


@catches("""training/muon.py: Muon looks no step ahead
- gradient.lerp(mean, momentum).movedim
+ mean.movedim""")
@catches("""training/muon.py: the weight decay of Muon lets weights grow
- mul_(1 - moves * (group["lr"]
+ mul_(1 + moves * (group["lr"]""")
@catches("""training/muon.py: Muon's steps are as long for tall matrices
-  * max(1.0, rows / columns) ** 0.5""")
@catches("""training/muon.py: the smaller square forgets a term
- factor.diagonal(dim1=1, dim2=2).add_(a)
+ factor.diagonal(dim1=1, dim2=2).add_(a - 1)""")
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


@catches("""training/optimizers.py: AdamW decays no weights
- betas=settings.betas, weight_decay=settings.weight_decay
+ betas=settings.betas, weight_decay=0.0""")
@catches("""training/optimizers.py: AdamW has the betas that torch gives it
- betas=settings.betas
+ betas=(0.9, 0.999)""")
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


@catches("""training/optimizers.py: hidden matrices move at the learning rate of the rest
- group["lr"] = peak * scale
+ group["lr"] = self._all[0][1] * scale""")
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


@catches("""training/loop.py: gradients are not cut [0.5-0.5]
- nn.utils.clip_grads_with_norm_(self._parameters, self.settings.clip, norm)
+ pass""")
@pytest.mark.parametrize(("clip", "norm"), [(0.5, 0.5), (None, 50.0)])
def test_a_gradient_is_cut_to_the_norm_that_was_asked_for(clip, norm):
    module, norms = nn.Linear(2, 1, bias=False), []

    def loss(indices, randomness):
        return module(torch.tensor([[30.0, 40.0]])).expand(len(indices), 1)[:, 0]

    trainer = Trainer(module, loss, 8, Optim(batch=4, clip=clip), Budget(steps=1), 0, torch.device("cpu"))
    trainer.optimizers.step = lambda scale, skip=None: norms.append(module.weight.grad.norm().item())
    trainer.run([1.0], lambda trainer: None, lambda trainer: None)
    assert norms == [pytest.approx(norm, rel=1e-5)]  # float32, and 1e-6 in a denominator


@catches("""training/muon.py: matrices of one shape get one size together
- torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True)
+ torch.linalg.vector_norm(x)""")
def test_matrices_of_one_shape_are_orthogonalized_together_as_they_are_alone():
    batch = torch.randn(3, 6, 20, dtype=torch.float64, generator=seeded(0))
    for matrices in (batch, batch.mT):
        alone = torch.stack([orthogonalized(matrix) for matrix in matrices])
        torch.testing.assert_close(orthogonalized(matrices), alone, rtol=0, atol=1e-12)  # float64, fifteen products


@pytest.mark.parametrize("skip", [None, torch.zeros(()), torch.ones(())])
def test_muon_moves_matrices_together_as_one_by_one(skip, monkeypatch):
    shapes = [(6, 4), (4, 6), (6, 2, 2, 1), (4, 6), (6, 4), (5, 5)]
    ends, sizes = [], []
    for most in (1, 3 * 24, 2**20):
        monkeypatch.setattr(muon, "MOST_AT_ONCE", most)
        generator = seeded(1)
        weights = [torch.nn.Parameter(torch.randn(s, dtype=torch.float64, generator=generator)) for s in shapes]
        start = [w.detach().clone() for w in weights]
        optimizer = Muon(weights, lr=0.1, weight_decay=0.1)
        for _ in range(3):
            for w in weights:
                w.grad = torch.randn(w.shape, dtype=torch.float64, generator=generator)
            optimizer.found_inf = skip
            optimizer.step()
        ends.append(weights)
        sizes.append([len(batch) for batch in muon.batches(weights)])
    assert sizes == [[1] * 6, [3, 2, 1], [5, 1]]
    for alone, some, most, first in zip(*ends, start):
        torch.testing.assert_close(some, alone, rtol=0, atol=1e-12)  # float64, a few steps of size 0.1
        torch.testing.assert_close(most, alone, rtol=0, atol=1e-12)
        assert torch.equal(alone, first) == (skip is not None and skip.item() == 1)


@catches("""training/muon.py: the update of Muon is far from orthogonal [shape2]
- ITERATIONS = 5
+ ITERATIONS = 1""")
@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (8, 8)])
def test_an_orthogonalized_update_keeps_directions_and_levels_their_sizes(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape, dtype=torch.float64)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    sizes = torch.diagonal(u.T @ orthogonalized(matrix) @ v.T)
    # the quintic iteration is tuned for speed: after five rounds singular values lie between 0.7 and 1.2
    assert sizes.min() > 0.6
    assert sizes.max() < 1.3
    off = u.T @ orthogonalized(matrix) @ v.T - torch.diag(sizes)
    assert off.abs().max() < 1e-9


def test_an_update_of_single_precision_is_that_of_double_though_singular_values_span_six_orders():
    noise = torch.Generator().manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(32, 200, dtype=torch.float64, generator=noise), full_matrices=False)
    matrix = (u * torch.logspace(0, -6, 32, dtype=torch.float64)) @ v
    off = torch.linalg.matrix_norm(orthogonalized(matrix.float()) - orthogonalized(matrix), ord=2)
    # a square of the matrix in float32 loses what is below 3e-4, and five rounds enlarge that by up to 3.4^5 = 480
    assert off < 0.01
    sizes = torch.diagonal(u.T @ orthogonalized(matrix) @ v.T)
    assert sizes[0] > 0.6
    assert sizes[-1] < 1e-3  # too small for five rounds, in any precision


@catches("""training/muon.py: matrices of half precision are orthogonalized in it
- lying.to(torch.promote_types(lying.dtype, torch.float32))
+ lying""")
def test_matrices_in_half_precision_are_orthogonalized_in_single():
    matrix = torch.outer(torch.arange(1.0, 9), torch.arange(1.0, 20)).bfloat16()  # of rank 1: nothing else may grow
    update = orthogonalized(matrix)
    assert update.dtype == torch.bfloat16
    # rounding to 8 bits, and the noise of rounding the matrix, which single precision enlarges by 3.4^5 at most
    assert torch.linalg.matrix_norm(update.float() - orthogonalized(matrix.float()), ord=2) < 0.01


@catches("""training/muon.py: Muon steps uphill
- alpha=-group["lr"]
+ alpha=group["lr"]""")
def test_muon_steps_along_the_gradient_of_any_matrix_shape():
    kernel = torch.nn.Parameter(torch.zeros(4, 2, 3, 3))
    kernel.grad = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    Muon([kernel], lr=0.1).step()
    assert (kernel * kernel.grad).sum() < 0


@catches("""training/optimizers.py: Muon is AdamW where no matrix is named
- if settings.method == "muon" and not any(
+ if settings.method == "muon" and all(""")
def test_muon_without_hidden_matrices_is_refused():
    module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    with pytest.raises(InputError, match=r"hidden_matrices\(\).*optim.method=adam"):
        Optimizers(module, Optim(method="muon"))
    assert Optimizers(module, Optim(method="adam"))
    module.hidden_matrices = lambda: [module[0].weight]
    assert Optimizers(module, Optim(method="muon"))


def test_muon_averages_gradients_with_a_decay_of_0_95_and_decays_no_weights_by_default():
    weight = nn.Parameter(torch.zeros(2, 2, dtype=F64))
    muon, mean, expected = Muon([weight], lr=0.1), [0.0, 0.0], [0.0, 0.0]
    for gradient in [(3.0, 1.0), (-1.0, 2.0)]:
        weight.grad = torch.diag(f64(gradient))
        muon.step()
        mean = [0.95 * m + 0.05 * g for m, g in zip(mean, gradient)]
        ahead = [0.95 * m + 0.05 * g for m, g in zip(mean, gradient)]
        expected = [w - 0.1 * near_one(a, math.hypot(*ahead)) for w, a in zip(expected, ahead)]
    assert_close(weight.detach(), torch.diag(f64(expected)), rtol=1e-9, atol=1e-12)


def test_a_name_that_ends_another_name_keeps_its_own_state():
    def module():
        made = nn.Sequential(nn.Linear(2, 2))
        made.add_module("net", nn.Sequential(nn.Linear(2, 3)))
        return made

    first, second = module(), module()
    saved, loaded = Optimizers(first, Optim()), Optimizers(second, Optim())
    for number, p in enumerate(first.parameters(), start=1):
        p.grad = torch.full_like(p, float(number))
    saved.step(1.0)
    loaded.load(saved.tensors())
    found = loaded.tensors()
    assert found.keys() == saved.tensors().keys()
    for name, value in saved.tensors().items():
        assert torch.equal(found[name], value), name
    assert found["exp_avg.0.weight"][0, 0] != found["exp_avg.net.0.weight"][0, 0]
