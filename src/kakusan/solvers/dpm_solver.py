"""Multistep DPM-Solver++, which extrapolates earlier data estimates, with one network evaluation per step."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from kakusan.errors import InputError
from kakusan.settings import Between, check
from kakusan.solvers.adams import Known, adams_weights, exponential_step, published_weights, usable

if TYPE_CHECKING:
    from torch import Tensor

    from kakusan.solvers.base import Denoise, Level, Noise

State = tuple[Known, ...]  # newest first


@dataclass(frozen=True)
class DPMSolver:
    """DPM-Solver++ of order 1, 2 or 3, deterministic given z_T.

    With `sde` it adds as much fresh noise as ancestral sampling. The first steps have fewer estimates and a lower order.
    They begin in nearly pure noise, where the estimate hardly changes. The last step returns the data estimate. Order 1
    without noise equals DDIM. Order 3 uses weights that are exact for a quadratic. The published multistep form of
    order 3 takes half the second difference and converges with order 2.

    Source: Lu et al. 2022, https://arxiv.org/abs/2211.01095, algorithm 2; section 5 for the SDE form.
    """

    order: Annotated[int, Between(1, 3)] = 2
    """Order of convergence, which is the number of estimates that a step uses."""
    sde: bool = False
    """Draw fresh noise in each step; order 1 or 2."""

    def __post_init__(self):
        check(self, "dpm-solver")
        if self.sde and self.order == 3:
            raise InputError("the SDE form of DPM-Solver++ has order 1 or 2, got order 3; omit sde")

    def init(self) -> State:
        """Return the initial state, which has no estimates."""
        return ()

    def step(self, denoise: Denoise, z: Tensor, t: Level, s: Level, state: State, noise: Noise) -> tuple[Tensor, State]:
        """Return z_s after a multistep update, and the estimates for the next step."""
        x_hat = denoise(z)
        if s.is_data:
            return x_hat, state
        known = ((t, x_hat), *state)[: self.order]
        if self.sde:
            return self._sde_step(z, t, s, known, noise), known
        weights = published_weights if self.order == 2 else adams_weights
        return exponential_step(z, t, s, known, weights), known

    def _sde_step(self, z: Tensor, t: Level, s: Level, known: State, noise: Noise) -> Tensor:
        h = s.half_log_snr - t.half_log_snr
        estimates = usable(t, known)
        nodes = [0.0, *[(level.half_log_snr - t.half_log_snr) / h for level, _ in estimates[1:]]]
        # the old noise's variance shrinks by a further factor exp(-2 h), and fresh noise replaces the difference
        z = t.signal * s.noise**2 / (s.signal * t.noise**2) * z
        for weight, (_, estimate) in zip(published_weights(2 * h, nodes), estimates):
            z = z + s.signal * weight * estimate
        fresh = s.noise * published_weights(2 * h, [0.0])[0] ** 0.5
        return z + fresh * noise(z)


dpm_2m = functools.partial(DPMSolver, order=2, sde=False)
dpm_3m = functools.partial(DPMSolver, order=3, sde=False)
dpm_2m_sde = functools.partial(DPMSolver, order=2, sde=True)
