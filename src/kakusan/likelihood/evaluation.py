"""Result of an evaluation: bits per dimension, its standard error in two parts, and the bits of each term."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from kakusan.distributions import add
from kakusan.units import bits_per_dim

APPROXIMATE = "approximate: the probability of a gray level is taken as density times width"


@dataclass(frozen=True)
class Part:
    """Part of the bound that comes from a range of noise levels.

    Attributes:
        name: Timesteps of the range, e.g. "t = 2..9".
        bits_per_dim: Bits per dimension of this part.
        standard_error: Standard error of bits_per_dim; None where it is unknown.
        log_snr: Log-SNR at both ends of the range, the end nearer to the data first; None if one is infinite.
        evaluated: True if the network was evaluated there. Otherwise the bits come from the control variate alone.
    """

    name: str
    bits_per_dim: float
    standard_error: float | None
    log_snr: tuple[float, float] | None = None
    evaluated: bool = True


@dataclass(frozen=True)
class Estimate:
    """Result of an estimator: nats of every example, and variances of their mean.

    Every variance is that of a mean over the examples, in nats^2. Stratified noise levels make it smaller than for
    independent values.

    Attributes:
        terms: Nats of each example by name of the term, float64 (N,); the terms sum to the bound.
        vars: Variance of each term's mean, from examples and noise together.
        var: Variance of the bound's mean, from examples and noise together; None for one example.
        var_monte_carlo: Variance of the bound's mean, from noise alone; None where it was not measured.
        evaluations: Number of network evaluations.
        words: The method, in words.
        strata: Indices of the examples in the order of their strata, for each block; None without strata.
        levels: Name, log-SNR at both ends, nats (N,) and variance of their mean for each range of noise levels.
        evaluated: Number of evaluations in each of `levels`; None where it was not counted.
    """

    terms: dict[str, Tensor]
    vars: dict[str, float | None]
    var: float | None
    var_monte_carlo: float | None
    evaluations: int
    words: str
    strata: list[Tensor] | None = None
    levels: list[tuple[str, tuple[float, float], Tensor, float | None]] = field(default_factory=list)
    evaluated: list[int] | None = None


@dataclass(frozen=True)
class Evaluation:
    """Negative bound on the log-likelihood of a data set, per dimension and per example; lower is better.

    Attributes:
        bits_per_dim: Negative bound in bits per dimension.
        standard_error: Standard error of bits_per_dim from examples and noise together; None (null in JSON) for one
            example, and for fewer than 10 network evaluations of a diffusion model.
        standard_error_monte_carlo: Its part from noise, for these examples; more network evaluations lower it. It is
            conservative (`likelihood.diffusion`); None where it was not measured.
        standard_error_images: Its part from the choice of examples; only more examples lower it.
        nats: Negative bound in nats per example.
        nats_standard_error: Standard error of nats.
        bits_per_example: Negative bound in bits per example.
        num_images: Number of examples.
        num_dims: Number of scalars in one example.
        network_evaluations: Number of network evaluations.
        terms: Bits per dimension of each term; they sum to bits_per_dim.
        term_errors: Standard error of each term, from examples and noise together.
        levels: Bits of each range of noise levels of a diffusion model.
        estimator: The method, in words.
        strata: Indices of the examples in the order of their strata (see `Estimate`); not in `record`.
        per_example: Nats of the bound (N,), in the order of the data, for paired comparisons; not in `record`. Each
            comes from one evaluation and is noisy; `TrainedModel.score_samples` scores single examples.
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
        """Return plain JSON values, without the examples; `elbo_nats` is the bound itself, minus `nats`."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("strata", "per_example")}
        plain["elbo_nats"] = -self.nats
        plain["levels"] = [{f.name: getattr(part, f.name) for f in fields(part)} for part in self.levels]
        return plain

    def __str__(self) -> str:
        return f"{self.bits_per_dim:.4f} ± {stderr_words(self.standard_error)} bits/dim"


def stderr_words(standard_error: float | None) -> str:
    """Standard error with 4 decimals, or "unknown" if it is None."""
    return "unknown" if standard_error is None else f"{standard_error:.4f}"


def summarize(estimate: Estimate, num_dims: int, offset_nats: float = 0.0) -> Evaluation:
    """Convert an estimate in nats to bits and to rates per dimension.

    Args:
        estimate: The result of an estimator.
        num_dims: Number of scalars in one example.
        offset_nats: Added to the bound of each example, e.g. num_dims * log(bin width) for a density of grid values.
    """
    terms, variances = dict(estimate.terms), dict(estimate.vars)
    if offset_nats:
        terms["grid"] = torch.full_like(next(iter(terms.values())), offset_nats)
        variances["grid"] = 0.0
    total = add(terms.values())
    mean = total.mean().item()
    whole, noise = estimate.var, estimate.var_monte_carlo

    def rate(nats: Tensor) -> float:
        return bits_per_dim(nats.mean().item(), num_dims) + 0.0  # 0 is never written as -0

    def error(variance: float | None) -> float | None:
        return None if variance is None else -bits_per_dim(math.sqrt(variance), num_dims)

    counts = estimate.evaluated or [1] * len(estimate.levels)
    return Evaluation(
        bits_per_dim=bits_per_dim(mean, num_dims),
        standard_error=error(whole),
        standard_error_monte_carlo=error(noise),
        standard_error_images=error(None if whole is None or noise is None else max(whole - noise, 0.0)),
        nats=-mean,
        nats_standard_error=None if whole is None else math.sqrt(whole),
        bits_per_example=bits_per_dim(mean, 1),
        num_images=len(total),
        num_dims=num_dims,
        network_evaluations=estimate.evaluations,
        terms={name: rate(value) for name, value in terms.items()},
        term_errors={name: error(variances[name]) for name in terms},
        levels=[
            Part(
                name,
                rate(value),
                error(variance) if count else None,
                _closed(log_snr),
                evaluated=count > 0,
            )
            for (name, log_snr, value, variance), count in zip(estimate.levels, counts)
        ],
        estimator=estimate.words + (f"; {APPROXIMATE}" if offset_nats else ""),
        strata=estimate.strata,
        per_example=total,
    )


def _closed(log_snr: tuple[float, float]) -> tuple[float, float] | None:
    return log_snr if all(map(math.isfinite, log_snr)) else None


def var_of_mean(values: Tensor) -> float | None:
    """Variance of the mean of independent values (N,); None for one value."""
    return values.var().item() / len(values) if len(values) > 1 else None


def stratified_var(values: Tensor, blocks: list[Tensor]) -> float | None:
    """Variance of the mean of stratified values (N,); see `stratified_vars`."""
    return stratified_vars(values[:, None], blocks)[0]


def stratified_vars(values: Tensor, blocks: list[Tensor]) -> list[float | None]:
    """Variance of the mean of each column of stratified values (N, k); None for fewer than two.

    Half the mean squared difference of neighbors in a block estimates the variance within a stratum. So the variance that
    stratification removes is not counted. The last and the first value are neighbors too, so each value counts twice.

    Source: Cochran 1977, Sampling Techniques, section 5A.12, collapsed strata.
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
