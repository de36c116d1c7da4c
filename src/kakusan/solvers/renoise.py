"""Renoise: estimate the data, add new noise and repeat; the sampler of distilled students."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from kakusan.solvers.base import Denoise, Level, Noise


@dataclass(frozen=True)
class Renoise:
    """Draw z_s ~ q(z_s | x_hat) with the data estimate x_hat from z_t; the last step returns the estimate.

    It takes one network evaluation per step. The estimates of the network must have the distribution of the data at every
    level, as those of a distilled student do. A perfect denoiser returns the posterior mean, so samples would vary less
    than the data.

    Source: Song et al. 2023, "Consistency models", https://arxiv.org/abs/2303.01469, algorithm 1.
    """

    @property
    def order(self) -> int:
        """0: it does not converge for a perfect denoiser."""
        return 0

    def init(self) -> None:
        """Initial state: none."""
        return

    def step(self, denoise: Denoise, z: Tensor, t: Level, s: Level, state: None, noise: Noise) -> tuple[Tensor, None]:
        """The estimate of x with fresh noise of level s."""
        x_hat = denoise(z)
        return (x_hat if s.is_data else s.signal * x_hat + s.noise * noise(z)), None
