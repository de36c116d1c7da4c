"""Heun's method, with or without churn; each step uses the mean of the slopes at its two ends."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from kakusan.settings import Between, check

if TYPE_CHECKING:
    from torch import Tensor

    from kakusan.solvers.base import Denoise, Level, Noise

LARGEST_GROWTH = math.sqrt(2)  # largest growth of the noise in a step; it doubles the variance


@dataclass(frozen=True)
class Heun:
    """Heun's method of order 2, with 2 K - 1 network evaluations for K steps; the last step returns the data estimate.

    The integration variable is the angle arctan(noise / signal). In it, a variance-preserving chain has bounded slopes
    and a finite range. In EDM's variable, the ratio noise / signal, such a chain starts at infinity.

    Source: Karras et al. 2022, https://arxiv.org/abs/2206.00364, algorithms 1 and 2.
    """

    churn: Annotated[float, Between(0, 1e9)] = 0.0
    """Amount of fresh noise (S_churn of EDM); 0 is deterministic. Before each step but the first, noise grows by churn / K."""

    def __post_init__(self):
        check(self, "heun")

    @property
    def order(self) -> int:
        """Order of convergence, 2."""
        return 2

    def init(self) -> bool:
        """Return the initial state, False before the first step."""
        return False

    def step(self, denoise: Denoise, z: Tensor, t: Level, s: Level, state: bool, noise: Noise) -> tuple[Tensor, bool]:
        """Return z_s by the mean of the slopes at t and s, and True as the next state."""
        if self.churn and state:
            raised = self._raised(denoise, t)
            z, t = _noised(z, t, raised, noise), raised
        x_hat = denoise(z, t)
        if s.is_data:
            return x_hat, True
        way = s.angle - t.angle
        slope = _slope(z, x_hat, t)
        there = z + way * slope
        return z + way / 2 * (slope + _slope(there, denoise(there, s), s)), True

    def _raised(self, denoise: Denoise, t: Level) -> Level:
        """Level at or above t whose noise-to-signal ratio is nearest to the wanted one."""
        growth = min(1 + self.churn / denoise.num_steps, LARGEST_GROWTH)
        aim = t.half_log_snr - math.log(growth)
        return min(denoise.levels[t.index :], key=lambda level: abs(level.half_log_snr - aim))


def _slope(z: Tensor, x_hat: Tensor, t: Level) -> Tensor:
    """Slope dz / d angle = signal eps - noise x, with eps from z = signal x + noise eps."""
    return (t.signal * z - x_hat) / t.noise


def _noised(z: Tensor, t: Level, raised: Level, noise: Noise) -> Tensor:
    """Draw z_raised ~ q(z_raised | z_t)."""
    if raised.index == t.index:
        return z
    share = raised.signal / t.signal
    var = raised.noise**2 - (share * t.noise) ** 2
    return share * z + var**0.5 * noise(z)
