"""DPM-Solver++, multistep: earlier estimates of the data tell where the estimate is going; a network call a step."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import torch
from torch import Tensor

from kakusan.models.diffusion import Diffusion
from kakusan.noise import Randomness
from kakusan.solvers.adams import Known, Weights, adams_weights, exponential_step, moment
from kakusan.solvers.levels import Levels, Step, last, start


def dpm_solver_2m(model: Diffusion, n: int, randomness: Randomness = None) -> Tensor:
    """Second order from two estimates. Source: Lu et al. 2022, "DPM-Solver++", algorithm 2."""
    return last(dpm_solver_steps(model, n, randomness, 2, published_weights))


def dpm_solver_3m(model: Diffusion, n: int, randomness: Randomness = None) -> Tensor:
    """Third order from three estimates, by the weights that are exact for a quadratic.

    The multistep form of order 3 in the authors' code, which others copied, takes half the second difference; it
    converges with order 2 (test_solvers.py shows it).
    """
    return last(dpm_solver_steps(model, n, randomness, 3, adams_weights))


@torch.no_grad()
def dpm_solver_steps(model: Diffusion, n: int, randomness: Randomness, order: int, weights: Weights) -> Iterator[Step]:
    """Yields (z_{t-1}, the data estimate from z_t) for t = T, ..., 1.

    The first steps have fewer estimates and a lower order: they begin in pure noise, where the estimate hardly
    moves. The last step, to t = 0, is the data estimate.
    """
    (model, z), level = start(model, n, randomness), Levels.of(model)
    known: deque[Known] = deque(maxlen=order)  # newest first
    for t in range(model.depth, 1, -1):
        x_hat = model.data_estimate(z, t)
        known.appendleft((level.half_log_snr[t], x_hat))
        z = exponential_step(level, t, z, known, weights)
        yield z, x_hat
    x_hat = model.data_estimate(z, 1)
    yield x_hat, x_hat


def published_weights(h: float, nodes: list[float]) -> list[float]:
    """Of one estimate or two: the slope counts as if it were felt over half of the step."""
    whole = moment(h, 0)
    if len(nodes) == 1:
        return [whole]
    slope = whole / 2 / -nodes[1]
    return [whole + slope, -slope]
