"""Evaluation to a wanted standard error: the number of network evaluations it needs, or that no number suffices."""

from __future__ import annotations

import math
from collections.abc import Callable

from kakusan.errors import InputError
from kakusan.likelihood.evaluation import Evaluation, stderr_words

MOST_REPEATS = 4096
SMALLEST_SHARE = 0.1  # least share of the wanted variance that must remain for the Monte Carlo part


def repeated_until(
    error: float, repeat: Callable[[int], Evaluation], repeats: int, tell: Callable[[str], None]
) -> tuple[Evaluation, list[str]]:
    """Double the number of averaged estimates until the standard error is reached.

    The standard error has two parts. Repeated estimates lower only the Monte Carlo part. If the part from the examples
    exceeds the wanted error, nothing is repeated, because only more examples help.

    Args:
        error: Wanted standard error, bits/dim, positive.
        repeat: Function from a number to the average of that many estimates; it reuses earlier estimates.
        repeats: Initial number of estimates.
        tell: Function that prints the plan.

    Returns:
        The last average, and lines of text about the outcome.
    """
    if not error > 0:
        raise InputError(f"--error must be positive bits/dim, got {error}")
    result = repeat(repeats)
    if result.standard_error_monte_carlo is None:  # unknown after a single estimate
        repeats = 2
        result = repeat(repeats)
    wanted = _wanted_monte_carlo(error, result)
    if wanted is not None and not _reached(result, error):
        tell(plan_words(error, wanted, result, repeats))
    while wanted is not None and not _reached(result, error) and repeats < MOST_REPEATS:
        repeats *= 2
        result = repeat(repeats)
        wanted = _wanted_monte_carlo(error, result)
    return result, [_end_words(error, result)]


def _reached(result: Evaluation, error: float) -> bool:
    whole = result.standard_error
    return (result.standard_error_monte_carlo or 0.0) <= error if whole is None else whole <= error


def _wanted_monte_carlo(error: float, result: Evaluation) -> float | None:
    """Return the Monte Carlo error at which the wanted error is reached; None if no number of evaluations reaches it."""
    left = error**2 - (result.standard_error_images or 0.0) ** 2
    return math.sqrt(left) if left > SMALLEST_SHARE * error**2 else None


def plan_words(error: float, wanted: float, result: Evaluation, repeats: int) -> str:
    """Describe how many network evaluations the wanted error needs, judged from the error so far."""
    now = result.standard_error_monte_carlo or 0.0
    needed = max(repeats, math.ceil(repeats * (now / wanted) ** 2))
    evaluations = round(result.network_evaluations / repeats * needed)
    return (
        f"plan: Monte Carlo error {now:.5f} after {result.network_evaluations:,} network evaluations; a standard error of "
        f"{error:g} needs about {evaluations:,}"
    )


def _end_words(error: float, result: Evaluation) -> str:
    if _reached(result, error):
        return f"the wanted standard error of {error:g} bits/dim is reached"
    if _wanted_monte_carlo(error, result) is None and result.standard_error_images is not None:
        needed = math.ceil(result.num_images * (result.standard_error_images / error) ** 2)
        return (
            f"a standard error of {error:g} bits/dim is out of reach: the part from the examples is "
            f"{stderr_words(result.standard_error_images)}, and only more examples lower it, about {needed:,}"
        )
    return f"the wanted standard error of {error:g} bits/dim is not reached after {MOST_REPEATS:,} estimates"
