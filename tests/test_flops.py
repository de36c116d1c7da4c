"""What a training step is said to cost: exact for layers whose products can be counted by hand."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from harness.faults import catches
from kakusan.training import flops
from kakusan.training.flops import Effort
from kakusan.training.loop import Trainer
from kakusan.training.settings import Budget, Optim

CPU = torch.device("cpu")


def trainer(module, shape, **settings):
    x = torch.randn(10, *shape)
    settings = Optim(batch=5, **settings)
    return Trainer(module, lambda i, noise: module(x[i]).flatten(1).sum(1), len(x), settings, Budget(steps=3), 0, CPU)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_linear_layer_costs_three_products_and_the_first_only_two(precision):
    one = trainer(nn.Sequential(nn.Linear(7, 11), nn.Tanh(), nn.Linear(11, 3)), (7,), precision=precision)
    # forward, gradient of the weight, gradient of the input; nobody asks for that of the data
    assert flops.per_example(one) == 2 * 7 * 11 * 2 + 2 * 11 * 3 * 3


@catches("""training/flops.py: only the forward pass is counted
- torch.autograd.grad(loss, parameters, allow_unused=True)
+ pass""")
def test_a_convolution_costs_its_kernel_at_each_place():
    one = trainer(nn.Conv2d(2, 5, 3, padding=1), (2, 6, 4))
    assert flops.per_example(one) == 2 * (3 * 3 * 2) * 5 * (6 * 4) * 2


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query = nn.Parameter(torch.randn(2, 9, 4))

    def forward(self, x):
        query = self.query.expand(len(x), -1, -1, -1)
        return nn.functional.scaled_dot_product_attention(query, query, query)


def test_attention_costs_two_products_forward_and_four_backward():
    one = trainer(Attention(), (1,))
    assert flops.per_example(one) == 6 * 2 * (9 * 9 * 4) * 2  # of two heads


@catches("""training/loop.py: counting moves the statistics of a normalisation
- buffer.copy_(before)
+ pass""")
def test_counting_changes_nothing():
    one = trainer(nn.Sequential(nn.Linear(7, 11), nn.BatchNorm1d(11)), (7,))
    before = {name: value.clone() for name, value in one.module.state_dict().items()}
    state = torch.get_rng_state()
    flops.per_example(one)
    assert all(torch.equal(before[name], value) for name, value in one.module.state_dict().items())
    assert all(p.grad is None for p in one.module.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_the_rate_is_said_in_flops_and_as_a_share_of_the_peak_where_that_is_known():
    assert Effort(2e9).words(50) == "100 GFLOP/s"
    assert Effort(3e6).words(41) == "0.12 GFLOP/s"
    assert Effort(2e9, 4e11).words(100) == "200 GFLOP/s, 50% of the peak"
    assert Effort().words(100) == Effort(0.0).words(100) == ""


def test_a_product_of_matrices_is_timed():
    assert 1e6 < flops.measured_peak(CPU, torch.float32, side=64, products=3) < 1e15
    assert flops.peak_of(trainer(nn.Linear(1, 1), (1,))) is None  # on a CPU nobody asks


def test_the_peak_is_twice_the_cube_of_the_side_over_the_shortest_time(monkeypatch):
    times = iter([0.0, 4.0, 10.0, 12.0, 20.0, 23.0])
    monkeypatch.setattr(flops.time, "perf_counter", lambda: next(times))
    assert flops.measured_peak(CPU, torch.float32, side=8, products=3) == 2 * 8**3 / 2


@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", torch.float32), ("tf32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_the_peak_of_a_gpu_is_that_of_the_precision_of_its_steps(monkeypatch, precision, dtype):
    asked, inside = [], []

    @contextmanager
    def step():
        inside.append(1)
        yield
        inside.pop()

    monkeypatch.setattr(flops, "measured_peak", lambda *given: asked.append((*given, len(inside))) or 5.0)
    gpu = torch.device("cuda")
    one = SimpleNamespace(
        device=gpu, settings=SimpleNamespace(precision=precision), computing=SimpleNamespace(step=step)
    )
    assert flops.peak_of(one) == 5.0
    assert asked == [(gpu, dtype, 1)]
