"""Renoise, the solver of distilled students: estimate the data, add new noise, and repeat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from kakusan.solvers.base import Denoise, Level, Noise


@dataclass(frozen=True)
class Renoise:
    """Solver that draws z_s ~ q(z_s | x_hat) with the data estimate x_hat from z_t; the last step returns x_hat.

    Each step takes one network evaluation. At every level the estimates must have the distribution of the data, like
    those of a distilled student. A perfect denoiser returns the posterior mean, so its samples would vary less than the
    data.

    Source: Song et al. 2023, "Consistency models", https://arxiv.org/abs/2303.01469, algorithm 1.
    """

    @property
    def order(self) -> int:
        """Order of convergence, 0, because it does not converge for a perfect denoiser."""
        return 0

    def init(self) -> None:
        """Return no initial state."""
        return

    def step(self, denoise: Denoise, z: Tensor, t: Level, s: Level, state: None, noise: Noise) -> tuple[Tensor, None]:
        """Return the estimate of x with fresh noise of level s, and no state."""
        x_hat = denoise(z)
        return (x_hat if s.is_data else s.signal * x_hat + s.noise * noise(z)), None
