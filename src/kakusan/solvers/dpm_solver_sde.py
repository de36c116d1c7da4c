"""DPM-Solver++ (2M) of the stochastic equation: as much fresh noise as the ancestral step draws."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from kakusan.models.diffusion import Diffusion
from kakusan.noise import Randomness, randn
from kakusan.solvers.dpm_solver import published_weights
from kakusan.solvers.levels import Levels, Step, last, start


def dpm_solver_2m_sde(model: Diffusion, n: int, randomness: Randomness = None) -> Tensor:
    """From two estimates and fresh noise; a network call a step. Source: Lu et al. 2022, "DPM-Solver++", section 5."""
    return last(dpm_solver_2m_sde_steps(model, n, randomness))


@torch.no_grad()
def dpm_solver_2m_sde_steps(model: Diffusion, n: int, randomness: Randomness) -> Iterator[Step]:
    """Yields (z_{t-1}, the data estimate from z_t) for t = T, ..., 1; the last step is the data estimate."""
    (model, z), level = start(model, n, randomness), Levels.of(model)
    before: tuple[float, Tensor] | None = None
    for t in range(model.depth, 1, -1):
        x_hat = model.data_estimate(z, t)
        h = level.half_log_snr[t - 1] - level.half_log_snr[t]
        known = [x_hat] if before is None else [x_hat, before[1]]
        nodes = [0.0] if before is None else [0.0, (before[0] - level.half_log_snr[t]) / h]
        before = (level.half_log_snr[t], x_hat)
        # the old noise fades by exp(-2 h) of its variance more than without fresh noise, which makes up for it
        left = level.signal[t] * level.noise[t - 1] ** 2 / (level.signal[t - 1] * level.noise[t] ** 2)
        z = left * z
        for weight, estimate in zip(published_weights(2 * h, nodes), known):
            z = z + level.signal[t - 1] * weight * estimate
        fresh = level.noise[t - 1] * published_weights(2 * h, [0.0])[0] ** 0.5
        z = z + fresh * randn(z.shape, randomness, z.dtype, z.device)
        yield z, x_hat
    x_hat = model.data_estimate(z, 1)
    yield x_hat, x_hat
