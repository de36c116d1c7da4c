"""Time grids, which select K of the T steps of a chain for a solver."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

from kakusan.errors import InputError

if TYPE_CHECKING:
    from kakusan.schedule import Schedule

Spacing = Literal["uniform", "log-snr", "karras"]
RHO = 7  # exponent in equation 5 of Karras et al. 2022


def times(schedule: Schedule, num_steps: int, spacing: str = "uniform", end_log_snr: float | None = None) -> list[int]:
    """Select K different steps from 1..T, in increasing order; the last is T, where the latents start.

    "uniform" steps are equally spaced. For the other two, K - 1 steps lie between the noise-to-signal ratios 1 / K and
    2 K / pi. They are equally spaced in the logarithm of the ratio ("log-snr") or in its seventh root ("karras"), and
    moved to the nearest free step. The first step, in nearly pure noise, and the last step, to the data estimate, become
    smaller as K grows.

    Args:
        schedule: The chain's schedule.
        num_steps: Number K of steps, 1 to T.
        spacing: "uniform" (default), "log-snr" or "karras".
        end_log_snr: Largest log-SNR of the grid, -100 to 100; default: no limit. A network may leave some noise at high
            log-SNR, which a lower end removes.

    Source: Karras et al. 2022, https://arxiv.org/abs/2206.00364, equation 5.

    Raises:
        InputError: For an unknown spacing, or numbers outside their ranges.
    """
    if spacing not in get_args(Spacing):
        raise InputError(f"unknown spacing {spacing!r}; expected one of {', '.join(get_args(Spacing))}")
    depth = schedule.depth
    if isinstance(num_steps, bool) or not isinstance(num_steps, int) or not 1 <= num_steps <= depth:
        raise InputError(f"steps must lie in 1..{depth}, the model's own number, got {num_steps}")
    if end_log_snr is not None and not -100 <= end_log_snr <= 100:
        raise InputError(f"end_log_snr must lie in -100..100, got {end_log_snr}; 100 means no early end")
    if spacing == "uniform" or num_steps == depth:
        return [round(depth * k / num_steps) for k in range(1, num_steps + 1)]
    log_noise = (-schedule.log_snr / 2).tolist()  # rises with t
    low, high = -math.log(num_steps), math.log(2 * num_steps / math.pi)
    if end_log_snr is not None:
        low = min(max(low, -end_log_snr / 2), high)
    share = [k / max(num_steps - 2, 1) for k in range(num_steps - 1)]
    if spacing == "log-snr":
        aims = [low + (high - low) * part for part in share]
    else:
        roots = math.exp(low / RHO), math.exp(high / RHO)
        aims = [RHO * math.log(roots[0] + (roots[1] - roots[0]) * part) for part in share]
    nearest = [min(range(1, depth + 1), key=lambda t: abs(log_noise[t] - aim)) for aim in aims]
    return _apart([*nearest, depth], depth)


def checked_times(given: Sequence[int], depth: int) -> list[int]:
    """Check steps in any order and return them in increasing order.

    Raises:
        InputError: If steps repeat or lie outside 1..T.
    """
    found = sorted(int(t) for t in given)
    if not found or len(set(found)) < len(found) or found[0] < 1 or found[-1] > depth:
        data = "; leave out 0: the last step always leads to the data" if found[:1] == [0] else ""
        raise InputError(f"times must be different steps within 1..{depth}, got {list(given)}{data}")
    return found


def _apart(wanted: list[int], depth: int) -> list[int]:
    """Return increasing, different numbers in 1..depth, each as near as possible to the wanted one."""
    free, out = 1, []
    for t in wanted:
        out.append(max(t, free))
        free = out[-1] + 1
    for k in range(len(out)):  # then downward from the upper end, where no numbers are left
        out[-1 - k] = min(out[-1 - k], depth - k)
    return out
