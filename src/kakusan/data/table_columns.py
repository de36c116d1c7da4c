"""Fit of the location, scale and shape of each column of a table to the training rows."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from kakusan.columns import Column

STEPS = 60  # L-BFGS iterations; the fit of a column converges in fewer
SMALLEST_GAIN = 6.0  # log-likelihood in nats that two shape parameters must gain: BIC asks for log(n), 6 at n = 400
FEWEST_VALUES = 30  # needed to fit a shape
LARGEST_SKEW, TAILS = 3.0, (0.25, 3.0)
ENOUGH_DIFFERENT = (
    0.1  # smallest share of different values for fitting a shape; with repeated values a density has no upper bound
)


def fitted(columns: tuple[Column, ...], rows: Tensor, shapes: bool = True) -> tuple[Column, ...]:
    """Fit the location, scale and shape of columns to rows.

    Args:
        columns: Names, types and categories.
        rows: Training rows, float64 (N, columns), NaN where a value is missing.
        shapes: Also fit skew and tail of real columns, by maximum likelihood.

    Returns:
        Columns whose transformed values have about mean 0 and variance 1. A shape is kept only where it raises the
        log-likelihood by more than `SMALLEST_GAIN` or log(N), whichever is larger.
    """
    found = []
    for index, column in enumerate(columns):
        values = rows[:, index]
        present = values[~values.isnan()]
        missing = column.missing or len(present) < len(values)
        column = dataclasses.replace(column, missing=missing)
        if not column.categories:
            column = _standardized(column, present)
            if shapes and column.type == "real" and _can_have_shape(present):
                column = _shaped(column, present)
        found.append(column)
    return tuple(found)


def _standardized(column: Column, values: Tensor) -> Column:
    if not len(values):
        return dataclasses.replace(column, center=0.0, scale=1.0)
    std = values.std(correction=0).item()
    scale = std if std > 0 and math.isfinite(std) else 1.0
    return dataclasses.replace(column, center=values.mean().item(), scale=scale)


def _can_have_shape(values: Tensor) -> bool:
    return len(values) >= FEWEST_VALUES and len(values.unique()) > ENOUGH_DIFFERENT * len(values)


def _shaped(column: Column, values: Tensor) -> Column:
    """Return the column with its four maximum-likelihood parameters if they gain enough, else the column itself."""
    with torch.enable_grad():
        u = (values.double() - column.center) / column.scale
        free = torch.zeros(4, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([free], max_iter=STEPS, line_search_fn="strong_wolfe")

        def nats() -> Tensor:
            center, log_scale, skew, log_tail = _limited(free)
            v = (u - center) * (-log_scale).exp()
            angle = log_tail.exp() * torch.asinh(v) - skew
            y = torch.sinh(angle)
            return (
                0.5 * y.square() - torch.cosh(angle).log() - log_tail + 0.5 * torch.log1p(v.square()) + log_scale
            ).sum()

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = nats() / len(u)
            loss.backward()
            return loss

        optimizer.step(closure)
        gain = 0.5 * u.square().sum() - nats()
        if not gain > max(SMALLEST_GAIN, math.log(len(u))):
            return column
        center, log_scale, skew, log_tail = (value.item() for value in _limited(free))
    return dataclasses.replace(
        column,
        center=column.center + column.scale * center,
        scale=column.scale * math.exp(log_scale),
        skew=skew,
        tail=math.exp(log_tail),
    )


def _limited(free: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Center, log scale, skew and log tail within their limits, from four free numbers."""
    low, high = math.log(TAILS[0]), math.log(TAILS[1])
    return (
        3 * (free[0] / 3).tanh(),
        3 * (free[1] / 3).tanh(),
        LARGEST_SKEW * (free[2] / LARGEST_SKEW).tanh(),
        (torch.where(free[3] > 0, high * (free[3] / high).tanh(), low * (free[3] / low).tanh())),
    )
