"""Weights of exponential Adams methods, which are exact if the data estimate is a polynomial in l.

Without fresh noise, and with l half the log signal-to-noise ratio, a = signal and b = noise,

    z(l + h) = b(l + h) / b(l) z(l) + a(l + h) int_0^1 h exp((u - 1) h) x_hat(l + u h) du,

where x_hat is unknown inside the interval. Replacing it by the polynomial through known estimates gives

    z(l + h) = b(l + h) / b(l) z(l) + a(l + h) sum_j weight_j x_hat(l + u_j h).

Source: Lu et al. 2022, "DPM-Solver++", https://arxiv.org/abs/2211.01095, equation 8, for the integral; Zhao et al. 2023,
"UniPC", https://arxiv.org/abs/2302.04867, for the conditions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from kakusan.solvers.base import Level

Weights = Callable[[float, list[float]], list[float]]
Known = tuple["Level", "Tensor"]  # a level and the data estimate there


def moment(h: float, k: int) -> float:
    """Compute int_0^1 h u^k exp((u - 1) h) du for h >= 0 by a series of positive terms, without cancellation."""
    if math.isinf(h):
        return 1.0
    term, total, j = h * math.exp(-h), 0.0, 0
    while True:
        part = term / (j + k + 1)
        total += part
        if j > h and part <= 1e-17 * total:
            return total
        j += 1
        term *= h / j


def adams_weights(h: float, nodes: list[float]) -> list[float]:
    """Weights of the estimates at l + u h for each u in nodes; exact for polynomials of degree below len(nodes).

    Args:
        h: Size of the step in half the log signal-to-noise ratio.
        nodes: Different positions in units of the step; 0 is its start, 1 its end, and negative ones are before it.
    """
    import numpy as np

    powers = np.stack([np.array(nodes, dtype=np.float64) ** k for k in range(len(nodes))])
    return np.linalg.solve(powers, np.array([moment(h, k) for k in range(len(nodes))])).tolist()


def published_weights(h: float, nodes: list[float]) -> list[float]:
    """Weights of one or two estimates in DPM-Solver++(2M), which approximates the slope at the midpoint of the step."""
    whole = moment(h, 0)
    if len(nodes) == 1:
        return [whole]
    slope = whole / 2 / -nodes[1]
    return [whole + slope, -slope]


def exponential_step(z: Tensor, t: Level, s: Level, known: Iterable[Known], weights: Weights) -> Tensor:
    """Return z after a step from level t to a level s > 0, with known estimates and a function for their weights."""
    known = usable(t, known)
    h = s.half_log_snr - t.half_log_snr
    nodes = [0.0] if math.isinf(h) else [(level.half_log_snr - t.half_log_snr) / h for level, _ in known]
    z = s.noise / t.noise * z
    for weight, (_, estimate) in zip(weights(h, nodes), known):
        z = z + s.signal * weight * estimate
    return z


def usable(t: Level, known: Iterable[Known]) -> list[Known]:
    """Known estimates at levels of finite log-SNR; at alpha_bar_t = 0 (zero terminal SNR) only the estimate at t."""
    if math.isinf(t.half_log_snr):
        return [(level, estimate) for level, estimate in known if level.index == t.index][:1]
    return [(level, estimate) for level, estimate in known if math.isfinite(level.half_log_snr)]
