"""The likelihood of the rows of a table with real, integer and categorical columns and missing values."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kakusan.checks import check_finite
from kakusan.columns import Column, Place, num_numbers, places
from kakusan.distributions import HALF_LOG_2PI, Distribution, Normal
from kakusan.errors import InputError
from kakusan.likelihoods.base import Likelihood, Output, gaussian
from kakusan.noise import Randomness, rand, randn

LOWEST_LOG_VAR = -14.0  # std of a thousandth of the column's, so that the density at repeated values stays bounded


@dataclass(frozen=True)
class Layout:
    """Positions of the columns of each type among the model values, computed once."""

    columns: tuple[Column, ...]
    places: list[Place] = field(init=False, compare=False)

    def __post_init__(self):
        object.__setattr__(self, "places", places(self.columns))

    def of(self, kind: str) -> list[Place]:
        """Places of the columns of one type."""
        return [place for place in self.places if place.column.type == kind]

    @cached_property
    def groups(self) -> list[list[Place]]:
        """Places of categorical columns, grouped by number of categories so that each group is one computation."""
        found: dict[int, list[Place]] = {}
        for place in self.of("categorical"):
            found.setdefault(place.column.width, []).append(place)
        return list(found.values())

    def table(self, kind: str, name: str, like: Tensor) -> Tensor:
        """One attribute of all columns of a type, as a tensor in their order."""
        values = [getattr(place.column, name) for place in self.of(kind)]
        return torch.tensor(values, dtype=like.dtype, device=like.device)

    def observed(self, value: Tensor, chosen: list[Place]) -> Tensor:
        """Flags of the chosen columns, (b, len(chosen)): 1 for a value and 0 for a missing value."""
        flags = [value.new_ones(len(value)) if place.flag is None else value[:, place.flag] for place in chosen]
        return torch.stack(flags, dim=1) if flags else value.new_ones(len(value), 0)


def log_slope(y: Tensor, scale: Tensor, skew: Tensor, tail: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """log dy/dv of the transformation of `Column` from v to y, at y, elementwise.

    A log-density of y plus this is the log-density of v.
    """
    w = y * std + mean
    u = torch.sinh((torch.asinh(w) + skew) / tail)
    return tail.log() + 0.5 * (torch.log1p(w.square()) - torch.log1p(u.square())) - (scale * std).log()


@dataclass(frozen=True)
class TableDistribution:
    """Independent columns given z: Gaussian reals, rounded Gaussian integers, and categories with log-odds.

    `log_prob` is that of the observed values in the units of their columns. It is a density for real columns and a
    probability for the others. Missing values are marginalized, which for independent columns means omitting them.
    """

    location: Tensor  # (b, numbers): means of reals and integers, log-odds of categories
    log_var: Tensor  # broadcasts against location
    layout: Layout

    @property
    def mean(self) -> Tensor:
        """Mean of the model values of a complete row (b, numbers); for integers the mean before rounding."""
        result = torch.ones_like(self.location)
        for place in self.layout.places:
            at = slice(place.start, place.stop)
            part = self.location[:, at]
            result[:, at] = part.softmax(1) if place.column.categories else part
        return result

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of each row's observed values in nats, shape (b,)."""
        return self.each(value).sum(1)

    def each(self, value: Tensor) -> Tensor:
        """Log-probability of each column in nats, (b, columns); 0 where the value is missing.

        The order is reals, integers, and categories by number of categories.
        """
        mean = self.location.expand_as(value)
        log_var = self.log_var.expand_as(value)
        parts = []
        if reals := self.layout.of("real"):
            at = [place.start for place in reals]
            y, nats = value[:, at], _normal(value[:, at], mean[:, at], log_var[:, at])
            shape = (self.layout.table("real", name, value) for name in ("scale", "skew", "tail", "mean", "std"))
            parts.append((nats + log_slope(y, *shape)) * self.layout.observed(value, reals))
        if integers := self.layout.of("integer"):
            at = [place.start for place in integers]
            half = 0.5 / self.layout.table("integer", "scale", value)
            nats = _rounded(value[:, at], mean[:, at], log_var[:, at], half)
            parts.append(nats * self.layout.observed(value, integers))
        for group in self.layout.groups:
            at = torch.tensor([range(place.start, place.stop) for place in group], device=value.device)
            nats = (value[:, at] * F.log_softmax(mean[:, at], -1)).sum(-1)
            parts.append(nats * self.layout.observed(value, group))
        return torch.cat(parts, dim=1)

    def sample(self, randomness: Randomness = None) -> Tensor:
        """Draw complete rows, in which no value is missing, (b, numbers)."""
        noise = randn(self.location.shape, randomness, self.location.dtype, self.location.device)
        uniform = rand(self.location.shape, randomness, self.location.dtype, self.location.device)
        drawn = self.location + (0.5 * self.log_var).exp() * noise
        result = torch.ones_like(self.location)  # a flag of 1 means that the value is present
        for place in self.layout.places:
            at = slice(place.start, place.stop)
            if place.column.type == "categorical":  # the largest of log-odds plus Gumbel noise
                gumbel = -(-uniform[:, at].clamp(min=torch.finfo(uniform.dtype).tiny).log()).log()
                chosen = (self.location[:, at] + gumbel).argmax(1)
                result[:, at] = F.one_hot(chosen, place.column.width).to(result.dtype)
            elif place.column.type == "integer":
                scale, center = place.column.scale, place.column.center
                result[:, at] = ((drawn[:, at] * scale + center).round() - center) / scale
            else:
                result[:, at] = drawn[:, at]
        return result

    def expand(self, num_examples: int) -> TableDistribution:
        """Return the distribution repeated for `num_examples` rows."""
        whole = self.log_var.expand_as(self.location)
        sizes = (num_examples, *self.location.shape[1:])
        return TableDistribution(self.location.expand(sizes), whole.expand(sizes), self.layout)


def _normal(value: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    return -0.5 * ((value - mean).square() * (-log_var).exp() + log_var) - HALF_LOG_2PI


def _rounded(value: Tensor, mean: Tensor, log_var: Tensor, half: Tensor) -> Tensor:
    """Log-probability of the bin from value - half to value + half, accurate in the tails like `DiscretizedNormal`."""
    std = (0.5 * log_var).exp()
    distance = -(value - mean).abs()  # mirrored to the lower tail
    near = ((distance + half) / std).clamp(min=-1e18, max=1e18)
    far = ((distance - half) / std).clamp(min=-1e18, max=1e18)
    log_near, log_far = torch.special.log_ndtr(near), torch.special.log_ndtr(far)
    tiny = torch.finfo(near.dtype).tiny
    return log_near + (-(log_far - log_near).expm1()).clamp(min=tiny).log()


class Table(Likelihood):
    """Likelihood of the rows of a table, with one distribution for each type of column.

    A row is a vector of model values (`kakusan.data.TableScale.to_model`). A real or integer column has one value, a
    categorical column one for each category, and a column with missing values a flag after these. A decoder returns
    (mean, log_var) of these values; for a categorical column the mean holds the log-odds.

    Args:
        columns: The table's columns.
    """

    name = "table"
    has_log_var = True

    def __init__(self, columns: tuple[Column, ...]):
        if not columns:
            raise InputError("a table needs one column or more")
        self.columns = tuple(columns)
        self.layout = Layout(self.columns)

    def check_values(self, x: Tensor) -> None:
        """Raise an InputError unless x can be rows of this table."""
        check_finite(x)
        if x.dim() != 2 or x.shape[1] != num_numbers(self.columns):
            raise InputError(
                f"rows of this table are {num_numbers(self.columns)} numbers each, got shape {tuple(x.shape)}; "
                "kakusan.data.TableScale(columns).to_model(rows) makes them"
            )
        for place in self.layout.places:
            if place.flag is not None and not ((x[:, place.flag] == 0) | (x[:, place.flag] == 1)).all():
                raise InputError(f"column {place.column.name}: flags of missing values must be 0 or 1")
            if place.column.type == "categorical":
                self._check_category(x, place)

    def _check_category(self, x: Tensor, place: Place) -> None:
        part = x[:, place.start : place.stop]
        wanted = 1.0 if place.flag is None else x[:, place.flag]
        if not (((part == 0) | (part == 1)).all() and (part.sum(1) == wanted).all()):
            raise InputError(f"column {place.column.name}: exactly one of its {part.shape[1]} categories must be 1")

    def numeric(self) -> list[int]:
        """Indices of real and integer columns among the model values."""
        return [place.start for place in self.layout.places if not place.column.categories]

    def seen(self, x: Tensor) -> Tensor:
        """Flags of real and integer columns, (b, len(numeric)): 1 for a value and 0 for a missing value."""
        return self.layout.observed(x, [place for place in self.layout.places if not place.column.categories])

    def log_frequencies(self, x: Tensor) -> tuple[list[int], Tensor]:
        """Indices of categories among the model values, and the log of their shares in x with add-one smoothing."""
        at, shares = [], [x.new_zeros(0)]
        for place in self.layout.of("categorical"):
            at += range(place.start, place.stop)
            counts = x[:, place.start : place.stop].sum(0) + 1
            shares.append((counts / counts.sum()).log())
        return at, torch.cat(shares)

    def distribution(self, output: Output) -> Distribution:
        """Independent columns with these means, log-variances and log-odds."""
        if not isinstance(output, tuple):
            raise InputError("the decoder of a table returns a pair (mean, log_var); got one tensor")
        normal: Any = gaussian(output, LOWEST_LOG_VAR)
        return TableDistribution(normal.mean, normal.log_var, self.layout)

    def check_noised(self) -> None:
        """Raise an InputError if values may be missing, because noised values cannot be."""
        if holes := [column.name for column in self.columns if column.missing]:
            raise InputError(
                f"a diffusion model adds noise to every value, and {holes[0]} has missing values; use "
                "the recipe tables, or leave out rows with missing values"
            )

    def of_normal(self, normal: Normal) -> Distribution:
        """Return p(row | z_1) for the Gaussian of the last reverse step.

        Reals and integers have the Gaussian itself. The probability of category k is proportional to N(e_k; mean, var)
        with the unit vector e_k.

        Raises:
            InputError: If values may be missing, because noised values cannot be.
        """
        self.check_noised()
        log_var = normal.log_var.expand_as(normal.mean).clamp(min=LOWEST_LOG_VAR)
        mean = normal.mean.clone()
        for place in self.layout.of("categorical"):
            at = slice(place.start, place.stop)
            mean[:, at] = (normal.mean[:, at] - 0.5) * (-log_var[:, at]).exp()  # log N(e_k) up to a constant
        return TableDistribution(mean, log_var, self.layout)
