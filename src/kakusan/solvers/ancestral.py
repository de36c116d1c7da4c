"""Ancestral sampling along the generative chain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from kakusan.solvers.base import Denoise, Level, Noise


@dataclass(frozen=True)
class Ancestral:
    """Ancestral sampling z_s ~ p(z_s | z_t), the last step without noise (M13).

    It takes one network evaluation per step and the variance of the chain. With beta_tilde it equals DDIM(eta=1).

    Source: Ho, Jain and Abbeel 2020, https://arxiv.org/abs/2006.11239, algorithm 2.
    """

    @property
    def order(self) -> int:
        """Order of convergence: 1."""
        return 1

    def init(self) -> None:
        """Initial state: none."""
        return

    def step(self, denoise: Denoise, z: Tensor, t: Level, s: Level, state: None, noise: Noise) -> tuple[Tensor, None]:
        """Draw from p(z_s | z_t), or return its mean if s is the data."""
        down = denoise.reverse(z)
        return (down.mean if s.is_data else down.mean + down.std * noise(z)), None
