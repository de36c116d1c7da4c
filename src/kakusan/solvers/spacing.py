"""Which K of a chain's T steps a sampler visits."""

from __future__ import annotations

import math
from typing import Literal, get_args

from kakusan.errors import InputError
from kakusan.schedule import Schedule

Spacing = Literal["uniform", "log-snr", "karras"]
RHO = 7  # of Karras et al. 2022, equation 5


def times(schedule: Schedule, num_steps: int, spacing: str = "uniform", end_log_snr: float | None = None) -> list[int]:
    """K different steps out of 1..T, rising.

    The highest is T, where the latents start. "uniform" are equally spaced. Of the other two, K - 1 steps lie between the
    noise-to-signal ratios 1 / K and 2 K / pi, equally spaced in its logarithm ("log-snr") or in its seventh root
    ("karras"), each moved to the nearest step that is free: the first step, through noise in which hardly a thing is
    decided, and the last, the data estimate, shrink as K grows, and no other step is spent there. With `end_log_snr` the
    last does not shrink beyond it: a network that is unsure how little noise is left leaves some of it.
    """
    if spacing not in get_args(Spacing):
        raise InputError(f"no spacing {spacing!r}; there are {', '.join(get_args(Spacing))}")
    depth = schedule.depth
    if not 1 <= num_steps <= depth:
        raise InputError(f"steps must lie in 1..{depth}, the model's own number, got {num_steps}")
    if end_log_snr is not None and not -100 <= end_log_snr <= 100:
        raise InputError(f"the log SNR where samples end must lie in -100..100, got {end_log_snr}; 100 is no end")
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


def _apart(wanted: list[int], depth: int) -> list[int]:
    """Rising numbers without repeats in 1..depth, each as near to the wanted one as those before it allow."""
    free, out = 1, []
    for t in wanted:
        out.append(max(t, free))
        free = out[-1] + 1
    for k in range(len(out)):  # from the upper end back, where there is no room left
        out[-1 - k] = min(out[-1 - k], depth - k)
    return out
