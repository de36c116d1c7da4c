"""The weights of exponential Adams methods: a step that is exact while the data estimate is a polynomial.

Without fresh noise, and with l half the log signal-to-noise ratio, a = signal and b = noise,

    z(l + h) = b(l + h) / b(l) z(l) + a(l + h) int_0^1 h exp((u - 1) h) x_hat(l + u h) du,

and what a method has to guess is x_hat under the integral. The polynomial through known estimates gives

    z(l + h) = b(l + h) / b(l) z(l) + a(l + h) sum_j weight_j x_hat(l + u_j h).

Source: Lu et al. 2022, "DPM-Solver++", equation 8, for the integral; Zhao et al. 2023, "UniPC", for the conditions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from kakusan.solvers.levels import Levels

Known = tuple[float, Tensor]  # half the log signal-to-noise ratio of a level, and the data estimate there
Weights = Callable[[float, list[float]], list[float]]


def moment(h: float, k: int) -> float:
    """int_0^1 h u^k exp((u - 1) h) du for h >= 0, by a series of positive terms: nothing cancels for small h."""
    term, total, j = h * math.exp(-h), 0.0, 0
    while True:
        part = term / (j + k + 1)
        total += part
        if j > h and part <= 1e-17 * total:
            return total
        j += 1
        term *= h / j


def adams_weights(h: float, nodes: list[float]) -> list[float]:
    """Of the estimates at l + u h for each u in nodes: exact for polynomials of degree below their number.

    Args:
        h: The step, in half the log signal-to-noise ratio.
        nodes: Different numbers, in steps: 0 is where the step begins, 1 where it ends, below 0 what lies behind.
    """
    u = torch.tensor(nodes, dtype=torch.float64)
    powers = torch.stack([u**k for k in range(len(nodes))])
    moments = torch.tensor([moment(h, k) for k in range(len(nodes))], dtype=torch.float64)
    return torch.linalg.solve(powers, moments).tolist()


def exponential_step(level: Levels, t: int, z: Tensor, known: Iterable[Known], weights: Weights) -> Tensor:
    """From z_t to z_{t-1}, t > 1, by the known estimates and `weights` of (h, nodes)."""
    begin, known = level.half_log_snr[t], list(known)
    h = level.half_log_snr[t - 1] - begin
    z = level.noise[t - 1] / level.noise[t] * z
    for weight, (_, estimate) in zip(weights(h, [(at - begin) / h for at, _ in known]), known):
        z = z + level.signal[t - 1] * weight * estimate
    return z
