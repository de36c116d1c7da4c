"""Estimate the data, add new noise to the estimate, estimate again: the sampler of distilled students."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from kakusan.solvers.base import Denoise, Level, Noise


@dataclass(frozen=True)
class Renoise:
    """z_s ~ q(z_s | x = the data estimate from z_t), the last step the estimate itself; one evaluation per step.

    It is made for networks whose estimates at every level have the distribution of the data, as a distilled student's.
    A perfect denoiser returns the posterior mean, and samples then vary less than the data.

    Source: Song et al. 2023, "Consistency models", https://arxiv.org/abs/2303.01469, algorithm 1.
    """

    @property
    def order(self) -> int:
        """0: a perfect denoiser is not the network that it is made for."""
        return 0

    def init(self) -> None:
        """No state."""
        return

    def step(self, denoise: Denoise, z: Tensor, t: Level, s: Level, state: None, noise: Noise) -> tuple[Tensor, None]:
        """The estimate of x, with noise of level s."""
        x_hat = denoise(z)
        return (x_hat if s.is_data else s.signal * x_hat + s.noise * noise(z)), None
