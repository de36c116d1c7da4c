"""Confidence sequences: intervals that hold at every look at growing data, so that one may stop at any of them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kakusan.errors import InputError

CONFIDENCE = 0.95
SHARPEST_AT = 2000  # examples at which the interval is as narrow as it can be tuned
FIRST_LOOK = 250  # fewest examples at which a look is taken: the variance is estimated


def confidence_radius(
    std: Tensor | float, count: Tensor | float, confidence: float = CONFIDENCE, sharpest_at: float = SHARPEST_AT
) -> Tensor:
    """Half width of an interval around the mean of `count` values that holds at all looks together.

        radius_n = std sqrt( 2 (n rho^2 + 1) / (n rho)^2  log( sqrt(n rho^2 + 1) / (1 - confidence) ) )

    The probability that the true mean is outside at any look is at most 1 - confidence, as the first look moves to large n.
    rho makes the interval narrowest at n = sharpest_at.

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
    """Lower and upper ends at several looks, for independent values with one distribution.

    Args:
        values: Values in the order in which they arrived, (..., N).
        looks: Numbers of values at the looks, int64 (L,), each within 2..N.
        confidence: See `confidence_radius`.
        sharpest_at: See `confidence_radius`.

    Returns:
        Two tensors (..., L).
    """
    values = values.double()
    center = values.mean(-1, keepdim=True)  # keeps the squares below small
    sums, squares = (values - center).cumsum(-1)[..., looks - 1], (values - center).square().cumsum(-1)[..., looks - 1]
    mean, n = sums / looks, looks.double()
    std = ((squares - n * mean.square()).clamp(min=0) / (n - 1)).sqrt()
    radius = confidence_radius(std, n, confidence, sharpest_at)
    return center + mean - radius, center + mean + radius
