"""The simple loss and the bound as objectives: which norm, and when they share a minimizer."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from harness.faults import catches
from harness.support import F64, SMALL_BETAS, assert_mean, f64, gauss_hermite, seeded
from kakusan.models.diffusion import Diffusion
from kakusan.schedule import Schedule

SMALL = Schedule.from_betas(SMALL_BETAS)


@pytest.mark.proves("S50")
@catches("""distributions.py: a normal density falls with the distance
- -0.5 * sum_event(u.square() + self.log_var)
+ -0.5 * sum_event(u.abs() + self.log_var)""")
def test_the_error_of_a_step_is_the_square_of_the_euclidean_norm():
    model = Diffusion(lambda z, t: torch.zeros_like(z), SMALL, 2, "mean", "unit").double()
    z = f64([[3.0, -4.0]])  # 1-norm 7, 2-norm 5
    assert model.step_log_prob(z, z, 2).item() == pytest.approx(-25 / 2 - math.log(2 * math.pi), rel=1e-14)


class Gains(nn.Module):
    """eps_hat = gain z_t, with gains of its own for every example so that gradients come one by one."""

    def __init__(self, gain: Tensor, examples: int):
        super().__init__()
        self.gain = nn.Parameter(gain.expand(examples, -1).clone())

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        rows = torch.arange(len(z)) % len(self.gain)
        return self.gain[rows, t - 1 if self.gain.shape[1] > 1 else torch.zeros_like(t)][:, None] * z


@pytest.mark.proves("M15")
@pytest.mark.parametrize("restricted", [False, True])
def test_simple_loss_and_bound_share_their_minimizer_only_if_the_network_is_free(restricted):
    n, std = 100_000, 0.5
    power, noise = SMALL.alpha_bar[1:] * std**2, SMALL.noise_var[1:]
    free = noise.sqrt() / (power + noise)  # E[eps | z_t] / z_t
    one_for_all = noise.sqrt().mean() / (power + noise).mean()  # minimises the mean of the squared errors over t
    gain = one_for_all[None] if restricted else free
    network = Gains(gain, n)
    model = Diffusion(network, SMALL, 1, "eps", "beta").double()
    model.loss(std * torch.randn(n, 1, generator=seeded(0), dtype=F64), seeded(1)).sum().backward()
    assert_mean(network.gain.grad, 0.0)  # at rest in the simple loss; 4.5 s.e., 6 entries in all

    network = Gains(gain, 1)
    model = Diffusion(network, SMALL, 1, "eps", "beta").double()
    eps, weights = gauss_hermite(2)
    for t in range(1, 6):
        q = model.marginal(std * eps[:, :1], t)
        (weights * model.step_cost(std * eps[:, :1], q.mean + q.std * eps[:, 1:], t)).sum().backward()
    assert (network.gain.grad.abs().max() > 0.01) == restricted
    if not restricted:
        assert_close(network.gain.grad, torch.zeros_like(network.gain.grad), rtol=0, atol=1e-12)
