"""Confidence sequences: intervals that are valid at every look at growing data, so that stopping at any look is valid."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kakusan.errors import InputError

CONFIDENCE = 0.95
SHARPEST_AT = 2000  # number of examples for which the width is tuned
FIRST_LOOK = 250  # fewest examples at a look, because the variance is estimated from them


def confidence_radius(
    std: Tensor | float, count: Tensor | float, confidence: float = CONFIDENCE, sharpest_at: float = SHARPEST_AT
) -> Tensor:
    """Half width of an interval around the mean of `count` values that is valid at all looks together.

        radius_n = std sqrt( 2 (n rho^2 + 1) / (n rho)^2  log( sqrt(n rho^2 + 1) / (1 - confidence) ) )

    The probability that the true mean is outside at any look is at most 1 - confidence. This is asymptotic: it holds in
    the limit of a large n at the first look. rho makes the interval narrowest at n = sharpest_at.

    Args:
        std: Standard deviation of the values so far, any shape.
        count: Number n of the values so far, at least 1.
        confidence: Probability, strictly between 0 and 1.
        sharpest_at: Number of values for which the width is tuned.

    Returns:
        Half width, in the unit of the values, float64.

    Source: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024, "Time-uniform central limit theory and asymptotic
    confidence sequences", https://arxiv.org/abs/2103.06476, theorem 2.2.
    """
    if not 0 < confidence < 1:
        raise InputError(f"confidence must lie strictly between 0 and 1, got {confidence}")
    alpha = 1 - confidence
    rho_squared = (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha))) / sharpest_at
    n = torch.as_tensor(count, dtype=torch.float64)
    mixed = n * rho_squared + 1
    log_term = mixed.log() / 2 - math.log(alpha)
    return torch.as_tensor(std, dtype=torch.float64) * (2 * mixed / (n.square() * rho_squared) * log_term).sqrt()


def confidence_sequence(
    values: Tensor, looks: Tensor, confidence: float = CONFIDENCE, sharpest_at: float = SHARPEST_AT
) -> tuple[Tensor, Tensor]:
    """Lower and upper ends of the interval at several looks, for independent, identically distributed values.

    Args:
        values: Values in the order in which they arrived, (..., N).
        looks: Number of values at each look, int64 (L,), from 2 to N.
        confidence: See `confidence_radius`.
        sharpest_at: See `confidence_radius`.

    Returns:
        Lower and upper ends, each (..., L).
    """
    values = values.double()
    center = values.mean(-1, keepdim=True)  # keeps the squares below small
    sums, squares = (values - center).cumsum(-1)[..., looks - 1], (values - center).square().cumsum(-1)[..., looks - 1]
    mean, n = sums / looks, looks.double()
    std = ((squares - n * mean.square()).clamp(min=0) / (n - 1)).sqrt()
    radius = confidence_radius(std, n, confidence, sharpest_at)
    return center + mean - radius, center + mean + radius
