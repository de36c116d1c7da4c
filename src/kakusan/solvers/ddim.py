"""DDIM, which keeps the predicted noise instead of drawing new noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from kakusan.settings import Between, check

if TYPE_CHECKING:
    from torch import Tensor

    from kakusan.solvers.base import Denoise, Level, Noise


@dataclass(frozen=True)
class DDIM:
    """DDIM with the step z_s = a_s x + sqrt(b_s^2 - v) eps + sqrt(v) noise.

    Here v = eta^2 b_s^2 (1 - (a_t b_s / (a_s b_t))^2), a = signal and b = noise. Each step takes one network evaluation.
    eta = 0 is deterministic given z_T, and eta = 1 equals ancestral sampling with the variance beta_tilde.

    Source: Song, Meng and Ermon 2021, https://arxiv.org/abs/2010.02502, equation 12.
    """

    eta: Annotated[float, Between(0, 1)] = 0.0
    """Share of fresh noise, 0 (deterministic) to 1 (ancestral)."""

    def __post_init__(self):
        check(self, "ddim")

    @property
    def order(self) -> int:
        """Order of convergence, 1."""
        return 1

    def init(self) -> None:
        """Return no initial state."""
        return

    def step(self, denoise: Denoise, z: Tensor, t: Level, s: Level, state: None, noise: Noise) -> tuple[Tensor, None]:
        """Return z_s by the formula of the class, and no state."""
        x = denoise(z)
        eps = (z - t.signal * x) / t.noise
        fresh_var = self.eta**2 * s.noise**2 * (1 - (t.signal * s.noise / (s.signal * t.noise)) ** 2)
        kept = max(s.noise**2 - fresh_var, 0.0) ** 0.5  # rounding at eta = 1 could make it negative
        z = s.signal * x + kept * eps
        return (z + fresh_var**0.5 * noise(z) if fresh_var > 0 else z), None
