"""Ancestral sampling along the generative chain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from kakusan.solvers.base import Denoise, Level, Noise


@dataclass(frozen=True)
class Ancestral:
    """Ancestral sampling z_s ~ p(z_s | z_t), with no noise in the last step (M13).

    Each step takes one network evaluation and uses the variance of the chain. With beta_tilde it equals DDIM(eta=1).

    Source: Ho, Jain and Abbeel 2020, https://arxiv.org/abs/2006.11239, algorithm 2.
    """

    @property
    def order(self) -> int:
        """Order of convergence, 1."""
        return 1

    def init(self) -> None:
        """Return no initial state."""
        return

    def step(self, denoise: Denoise, z: Tensor, t: Level, s: Level, state: None, noise: Noise) -> tuple[Tensor, None]:
        """Return a draw of z_s ~ p(z_s | z_t), or its mean if s is the data, and no state."""
        down = denoise.reverse(z)
        return (down.mean if s.is_data else down.mean + down.std * noise(z)), None
