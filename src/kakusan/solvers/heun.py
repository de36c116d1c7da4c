"""Heun's method, with or without churn: each step is repeated with the mean of the slopes at its two ends."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from kakusan.errors import InputError
from kakusan.models.diffusion import Diffusion
from kakusan.noise import Randomness, randn
from kakusan.solvers.levels import Levels, Step, last, start

MOST_CHURN = math.sqrt(2) - 1  # of a step: its noise variance is doubled at most


def heun(model: Diffusion, n: int, randomness: Randomness = None, churn: float = 0.0) -> Tensor:
    """Second order; 2 K - 1 network calls for K steps, the last being the data estimate.

    The steps run in the angle arctan(noise / signal), in which a variance-preserving chain has bounded slopes and
    a finite way to go; in the ratio itself, EDM's own variable, such a chain begins at infinity.

    Args:
        model: The chain.
        n: How many.
        randomness: Source of z_T and of the churn.
        churn: S_churn of EDM. Before each step but the first the noise is raised by this share of a K-th, though
            never by more than a factor sqrt(2), to the nearest step of the chain that `model` was respaced from.
            0 is deterministic given z_T.

    Source: Karras et al. 2022, "Elucidating the design space", algorithms 1 and 2.
    """
    return last(heun_steps(model, n, randomness, churn))


@torch.no_grad()
def heun_steps(model: Diffusion, n: int, randomness: Randomness = None, churn: float = 0.0) -> Iterator[Step]:
    """Yields (z_{t-1}, the data estimate from z_t) for t = T, ..., 1."""
    if not 0 <= churn < math.inf:
        raise InputError(f"churn must be 0 or more and finite, got {churn}; 0 draws no fresh noise")
    model, z = start(model, n, randomness)
    fine, times = model.finest
    level, growth = Levels.of(fine), 1 + min(churn / model.depth, MOST_CHURN)
    for k in range(model.depth, 0, -1):
        t, end = times[k], times[k - 1]
        if churn and k < model.depth:
            raised = _nearest(level, t, growth)
            z = _noised(level, z, t, raised, randomness)
            t = raised
        x_hat = fine.data_estimate(z, t)
        if end == 0:
            yield x_hat, x_hat
            return
        way = _angle(level, end) - _angle(level, t)
        slope = _slope(level, z, x_hat, t)
        there = z + way * slope
        z = z + way / 2 * (slope + _slope(level, there, fine.data_estimate(there, end), end))
        yield z, x_hat


def _angle(level: Levels, t: int) -> float:
    return math.atan2(level.noise[t], level.signal[t])


def _slope(level: Levels, z: Tensor, x_hat: Tensor, t: int) -> Tensor:
    """dz / d angle = signal eps - noise x, with eps from z = signal x + noise eps; t > 0."""
    return (level.signal[t] * z - x_hat) / level.noise[t]


def _nearest(level: Levels, t: int, growth: float) -> int:
    """The step from t upwards whose noise-to-signal ratio is nearest to `growth` times that of t."""
    aim = level.half_log_snr[t] - math.log(growth)
    return min(range(t, len(level.noise)), key=lambda s: abs(level.half_log_snr[s] - aim))


def _noised(level: Levels, z: Tensor, t: int, raised: int, randomness: Randomness) -> Tensor:
    """z_raised ~ q(z_raised | z_t)."""
    share = level.signal[raised] / level.signal[t]
    var = level.noise[raised] ** 2 - (share * level.noise[t]) ** 2
    return share * z + var**0.5 * randn(z.shape, randomness, z.dtype, z.device) if raised > t else z
