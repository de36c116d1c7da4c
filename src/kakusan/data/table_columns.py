"""Fit of the location, scale and shape of each column of a table to the training rows."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from kakusan.columns import Column
from kakusan.data.table_scale import transform
from kakusan.noise import stream

STEPS = 100  # L-BFGS iterations
SMALLEST_GAIN = 6.0  # log-likelihood in nats that two shape parameters must gain: BIC asks for log(n), 6 at n = 400
FEWEST_VALUES = 30  # needed to fit a shape
ROWS_PER_COLUMN = 5  # complete rows for each column that a joint fit needs
MOST_ROWS = 5000  # rows that shapes are fitted to, a random choice
SMALLEST_VAR = 1e-4  # added to each variance of the standardized columns, so that a column may be a function of others
PRIOR_STD = 0.5  # of the normal prior of skew and of log tail
LARGEST_SKEW, TAILS = 3.0, (0.25, 3.0)
ENOUGH_DIFFERENT = (
    0.1  # smallest share of different values for fitting a shape; with repeated values a density has no upper bound
)


def fitted(columns: tuple[Column, ...], rows: Tensor, shapes: bool = True) -> tuple[Column, ...]:
    """Fit the location, scale and shape of columns to rows.

    Shapes maximize the posterior density of a model in which the transformed values of all real columns are jointly
    Gaussian. With too few complete rows, each column is fitted alone.

    Args:
        columns: Names, types and categories.
        rows: Training rows, float64 (N, columns), NaN where a value is missing.
        shapes: Also fit skew and tail of real columns.

    Returns:
        Columns whose transformed values have mean 0 and variance 1. Shapes are kept only if they raise the log
        posterior density by more than `SMALLEST_GAIN` or log(N), whichever is larger.
    """
    found = []
    for index, column in enumerate(columns):
        values = rows[:, index]
        present = values[~values.isnan()]
        column = dataclasses.replace(column, missing=column.missing or len(present) < len(values))
        found.append(column if column.categories else _standardized(column, present))
    if not shapes:
        return tuple(found)
    few = rows[torch.randperm(len(rows), generator=stream("shapes"))[:MOST_ROWS].sort().values]
    able = [all(_can_have_shape(part[:, k]) for part in (rows, few)) for k in range(len(found))]
    real = [k for k, column in enumerate(found) if column.type == "real" and able[k]]
    whole = few[~few[:, real].isnan().any(1)]
    together = 2 * len(whole) >= len(few) and len(whole) >= ROWS_PER_COLUMN * len(real)
    together = together and all(_can_have_shape(whole[:, k]) for k in real)
    for group in [real] if together else [[k] for k in real]:
        for k, column in zip(group, _shaped([found[k] for k in group], few[:, group]), strict=True):
            found[k] = _centered(column, rows[:, k])
    return tuple(found)


def _centered(column: Column, values: Tensor) -> Column:
    """Return a column whose transformed values have mean 0 and variance 1 over all values that are present."""
    if (column.skew, column.tail) == (0.0, 1.0):
        return column
    y = transform(column, values[~values.isnan()])
    return dataclasses.replace(column, mean=y.mean().item(), std=y.std(correction=0).item())


def _standardized(column: Column, values: Tensor) -> Column:
    if not len(values):
        return dataclasses.replace(column, center=0.0, scale=1.0)
    std = values.std(correction=0).item()
    scale = std if std > 0 and math.isfinite(std) else 1.0
    return dataclasses.replace(column, center=values.mean().item(), scale=scale)


def _can_have_shape(values: Tensor) -> bool:
    values = values[~values.isnan()]
    return len(values) >= FEWEST_VALUES and len(values.unique()) > ENOUGH_DIFFERENT * len(values)


def _shaped(columns: list[Column], rows: Tensor) -> list[Column]:
    """Return the columns with the shapes of largest posterior density, or unchanged if the gain is too small.

    In the model, the transformed complete rows are jointly Gaussian, with their maximum-likelihood mean and covariance.
    """
    if not columns:
        return columns
    rows = rows[~rows.isnan().any(1)].double()
    u = (rows - rows.new_tensor([c.center for c in columns])) / rows.new_tensor([c.scale for c in columns])
    floor = SMALLEST_VAR * torch.eye(len(columns), dtype=u.dtype)
    with torch.enable_grad():
        free = torch.zeros(4, len(columns), dtype=u.dtype, requires_grad=True)
        optimizer = torch.optim.LBFGS([free], max_iter=STEPS, line_search_fn="strong_wolfe")

        def nats() -> Tensor:
            """Negative log-density of the rows and their shapes, up to a constant."""
            y, log_slope = _transformed(u, free)
            std = y.std(0, correction=0)
            z = (y - y.mean(0)) / std
            log_volume = 0.5 * torch.logdet(z.T @ z / len(z) + floor) + std.log().sum()
            prior = 0.5 * (torch.stack(_limited(free)[2:]) / PRIOR_STD).square().sum()
            return len(z) * log_volume - log_slope.sum() + prior

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = nats() / len(u)
            loss.backward()
            return loss

        before = nats().item()
        optimizer.step(closure)
        if not before - nats().item() > max(SMALLEST_GAIN, math.log(len(u))):
            return columns
    free = free.detach()
    found = []
    for column, (center, log_scale, skew, log_tail) in zip(
        columns, torch.stack(_limited(free)).T.tolist(), strict=True
    ):
        center, scale = column.center + column.scale * center, column.scale * math.exp(log_scale)
        found.append(dataclasses.replace(column, center=center, scale=scale, skew=skew, tail=math.exp(log_tail)))
    return found


def _transformed(u: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """Transformed values of the standardized values u and the logarithms of the slopes, each (N, columns)."""
    center, log_scale, skew, log_tail = _limited(free)
    v = (u - center) * (-log_scale).exp()
    angle = log_tail.exp() * torch.asinh(v) - skew
    return torch.sinh(angle), torch.cosh(angle).log() + log_tail - 0.5 * torch.log1p(v.square()) - log_scale


def _limited(free: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Center, log scale, skew and log tail within their limits, from four free numbers for each column."""
    low, high = math.log(TAILS[0]), math.log(TAILS[1])
    return (
        3 * (free[0] / 3).tanh(),
        3 * (free[1] / 3).tanh(),
        LARGEST_SKEW * (free[2] / LARGEST_SKEW).tanh(),
        (torch.where(free[3] > 0, high * (free[3] / high).tanh(), low * (free[3] / low).tanh())),
    )
