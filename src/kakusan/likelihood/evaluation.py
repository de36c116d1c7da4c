"""What an evaluation says: a rate, its two kinds of error, and where the bits go."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from kakusan.distributions import add
from kakusan.units import bits_per_dim

APPROXIMATE = "approximate, as a density times the width of a grey level stands for its probability"


@dataclass(frozen=True)
class Part:
    """One part of the bound: a term, a noise level, a level of a hierarchy."""

    name: str
    bits_per_dim: float
    standard_error: float | None
    log_snr: tuple[float, float] | None = None  # of a noise level, from the data's side; None for its open ends


@dataclass(frozen=True)
class Estimate:
    """What an estimator hands over: nats of every example, once, and how far the means may be off.

    A `spread` is the estimated variance of a mean over the examples, in nats^2. It may be smaller than that of
    independent values would be, where noise levels were stratified.
    """

    terms: dict[str, Tensor]  # name -> (N,), float64; they sum to the bound
    spreads: dict[str, float | None]  # of each term's mean, examples and noise together
    spread: float | None  # of the bound's mean, examples and noise together; None for one example
    spread_monte_carlo: float | None  # of the bound's mean, with the examples given; None where it was not measured
    calls: int
    words: str
    strata: list[Tensor] | None = None  # examples in the order of their strata, block by block; None if independent
    levels: list[tuple[str, tuple[float, float], Tensor, float | None]] = field(default_factory=list)


@dataclass(frozen=True)
class Evaluation:
    """A bound on the log-likelihood of a data set, as rates: lower is better.

    Attributes:
        standard_error: Of bits_per_dim as a statement about the law that the examples were drawn from; None for one.
        standard_error_monte_carlo: Of bits_per_dim as a statement about these very examples: what more network calls
            would lower. Rather too large than too small (`likelihood.diffusion`); None where it was not measured.
        standard_error_images: What is left of standard_error: what only more examples would lower.
        nats: Minus the bound, per example.
        terms: Bits per dimension; they sum to bits_per_dim.
        term_errors: Standard errors of the terms, of the kind of standard_error.
        levels: Of a diffusion model, the bits of each range of noise levels.
        strata: Which examples stand for one stratum, as `Estimate` has it; not recorded.
        per_example: Nats of the bound (N,), in the order of the data, for paired comparisons; not recorded.
    """

    bits_per_dim: float
    standard_error: float | None
    standard_error_monte_carlo: float | None
    standard_error_images: float | None
    nats: float
    nats_standard_error: float | None
    bits_per_example: float
    num_images: int
    num_dims: int
    network_evaluations: int
    terms: dict[str, float]
    term_errors: dict[str, float | None]
    levels: list[Part]
    estimator: str
    strata: list[Tensor] | None = field(repr=False, compare=False)
    per_example: Tensor = field(repr=False, compare=False)

    def record(self) -> dict[str, Any]:
        """As plain JSON values, without the examples."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("strata", "per_example")}
        plain["levels"] = [{f.name: getattr(part, f.name) for f in fields(part)} for part in self.levels]
        return plain

    def __str__(self) -> str:
        return f"{self.bits_per_dim:.4f} ± {spread_words(self.standard_error)} bits/dim"


def spread_words(standard_error: float | None) -> str:
    """For people; one example has no spread."""
    return "?" if standard_error is None else f"{standard_error:.4f}"


def summarise(estimate: Estimate, num_dims: int, offset_nats: float = 0.0) -> Evaluation:
    """From nats to rates.

    Args:
        estimate: What was estimated.
        num_dims: Scalars in one example.
        offset_nats: Added to the bound of each example, e.g. num_dims * log(bin width) for a density of grid values.
    """
    terms, spreads = dict(estimate.terms), dict(estimate.spreads)
    if offset_nats:
        terms["grid"] = torch.full_like(next(iter(terms.values())), offset_nats)
        spreads["grid"] = 0.0
    words = estimate.words + (f"; {APPROXIMATE}" if offset_nats else "")
    total = add(terms.values())
    mean = total.mean().item()
    whole, noise = estimate.spread, estimate.spread_monte_carlo
    images = None if whole is None or noise is None else max(whole - noise, 0.0)

    def error(variance: float | None) -> float | None:
        return None if variance is None else -bits_per_dim(math.sqrt(variance), num_dims)

    return Evaluation(
        bits_per_dim=bits_per_dim(mean, num_dims),
        standard_error=error(whole),
        standard_error_monte_carlo=error(noise),
        standard_error_images=error(images),
        nats=-mean,
        nats_standard_error=None if whole is None else math.sqrt(whole),
        bits_per_example=bits_per_dim(mean, 1),
        num_images=len(total),
        num_dims=num_dims,
        network_evaluations=estimate.calls,
        terms={name: bits_per_dim(value.mean().item(), num_dims) for name, value in terms.items()},
        term_errors={name: error(spreads[name]) for name in terms},
        levels=[
            Part(name, bits_per_dim(value.mean().item(), num_dims), error(variance), _closed(log_snr))
            for name, log_snr, value, variance in estimate.levels
        ],
        estimator=words,
        strata=estimate.strata,
        per_example=total,
    )


def _closed(log_snr: tuple[float, float]) -> tuple[float, float] | None:
    return log_snr if all(map(math.isfinite, log_snr)) else None


def mean_spread(values: Tensor) -> float | None:
    """Variance of the mean of independent values (N,); None for one value."""
    return values.var().item() / len(values) if len(values) > 1 else None


def stratified_spread(values: Tensor, blocks: list[Tensor]) -> float | None:
    """`stratified_spreads` of one column of values (N,)."""
    return stratified_spreads(values[:, None], blocks)[0]


def stratified_spreads(values: Tensor, blocks: list[Tensor]) -> list[float | None]:
    """Variance of the mean of each column of values (N, k), of which each block's neighbours stand for one stratum; None for fewer than two.

    Half the squared difference of neighbours, averaged: what strata save is not counted as noise. The last and the first
    are neighbours too, so that each value counts twice. Source: Cochran, Sampling Techniques, section 5A.12, collapsed
    strata.
    """
    if len(values) < 2:
        return [None] * values.shape[1]
    total = torch.zeros(values.shape[1], dtype=values.dtype)
    for rows in blocks:
        if len(rows) == 1:
            total += values.var(0)
        elif len(rows) > 1:
            total += len(rows) * (values[rows] - values[rows.roll(1)]).square().mean(0) / 2
    return (total / len(values) ** 2).tolist()
