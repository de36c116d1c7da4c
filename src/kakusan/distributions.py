"""Distributions over whole examples, with the random generator as an argument.

Every one has `sample(randomness)`, `log_prob(value)` in nats of shape (b,), `mean`, and `expand(n)`.
`torch.distributions` takes no generator and does not sum over an example; the tests compare these classes with it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from kakusan.checks import check_same_event
from kakusan.noise import Randomness, rand, randn

LEVELS = 256  # gray levels of 8-bit data
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
Law = TypeVar("Law", bound="Distribution")


class Distribution(Protocol):
    """Interface of a distribution. exp(log_prob) integrates (or sums) to one, and `sample` draws from it."""

    @property
    def mean(self) -> Tensor:
        """Expectation, shape (b, *event); b may be 1 if all examples share the distribution."""
        ...

    def sample(self, randomness: Randomness = None) -> Any:
        """One draw for each example, shape (b, *event)."""
        ...

    def log_prob(self, value: Any) -> Tensor:
        """Log-density or log-probability in nats, summed over the event, shape (b,)."""
        ...

    def expand(self, num_examples: int) -> Self:
        """Return the same distribution for `num_examples` examples, expanded from a batch of one."""
        ...


def add(terms: Iterable[Tensor]) -> Tensor:
    """Sum one or more tensors of the same shape."""
    return functools.reduce(torch.add, terms)


def sum_event(values: Tensor) -> Tensor:
    """Sum over the event: (b, *event) -> (b,)."""
    return values.flatten(1).sum(1)


@dataclass(frozen=True)
class Normal:
    """N(mean, diag(std^2)) over whole examples; the first dimension is the batch.

    Built from `std`, or with `from_log_var` from log-variances, which stay finite where a variance
    underflows (theory E29). std = 0 is a point mass, which can be sampled and has no density.
    """

    mean: Tensor  # (b, *event)
    std: Tensor  # broadcasts against mean; a standard deviation, never a variance
    log_var: Tensor = None  # type: ignore[assignment]  # 2 log std; stored if given, otherwise computed

    def __post_init__(self):
        if self.log_var is None:
            object.__setattr__(self, "log_var", 2 * self.std.log())

    @classmethod
    def from_log_var(cls, mean: Tensor, log_var: Tensor) -> Normal:
        """N(mean, diag(exp(log_var)))."""
        return cls(mean, (0.5 * log_var).exp(), log_var)

    @classmethod
    def from_var(cls, mean: Tensor, var: Tensor) -> Normal:
        """N(mean, diag(var)); var = 0 is allowed and is a point mass."""
        return cls(mean, var.sqrt(), var.log())

    @property
    def var(self) -> Tensor:
        """Variance, broadcasting against the mean."""
        return self.log_var.exp()

    @property
    def _num_dims(self) -> int:
        return math.prod(self.mean.shape[1:])

    def sample(self, randomness: Randomness = None) -> Tensor:
        """Draw one value per example."""
        return self.mean + self.std * randn(self.mean.shape, randomness, self.mean.dtype, self.mean.device)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density or log-probability of each example in nats, shape (b,)."""
        check_same_event(value, self.mean)
        u = (value - self.mean) / self.std
        return -0.5 * sum_event(u.square() + self.log_var) - self._num_dims * HALF_LOG_2PI

    def entropy(self) -> Tensor:
        """Entropy in nats, shape (b,)."""
        return 0.5 * sum_event(self.log_var.expand_as(self.mean)) + self._num_dims * (0.5 + HALF_LOG_2PI)

    def cross_entropy(self, value: Tensor, var: Tensor) -> Tensor:
        """-E log_prob(X) for X ~ N(value, diag(var)), in nats, shape (b,)."""
        squared = (value - self.mean).square() + var
        return sum_event(0.5 * squared * (-self.log_var).exp() + 0.5 * self.log_var + HALF_LOG_2PI)

    def expand(self, num_examples: int) -> Normal:
        """Repeat for `num_examples` examples."""
        std, log_var = self.std.expand_as(self.mean), self.log_var.expand_as(self.mean)
        return Normal(_expand(self.mean, num_examples), _expand(std, num_examples), _expand(log_var, num_examples))


def standard_normal(shape: tuple[int, ...], like: Tensor) -> Normal:
    """N(0, I) with a batch of one, in the dtype and on the device of `like`; it has no parameters (S3)."""
    zeros = torch.zeros((1, *shape), dtype=like.dtype, device=like.device)
    return Normal(zeros, torch.ones_like(zeros), zeros)


def normal_kl(q: Normal, p: Normal) -> Tensor:
    """KL(q || p) in nats, shape (b,): `normal_kl_each` summed over the event."""
    return sum_event(normal_kl_each(q, p))


def normal_kl_each(q: Normal, p: Normal) -> Tensor:
    """KL of each coordinate, (b, *event). It uses log-variances, and so is finite for a tiny variance of q (E29).

    Theory S22, S23, O1: sum of [ln(s_p^2 / s_q^2) + (s_q^2 + (m_q - m_p)^2) / s_p^2 - 1] / 2.
    """
    check_same_event(q.mean, p.mean)
    log_ratio = q.log_var - p.log_var
    squared = (q.mean - p.mean).square() * (-p.log_var).exp()
    return 0.5 * (log_ratio.expm1() - log_ratio + squared)


@dataclass(frozen=True)
class Bernoulli:
    """Independent bits with the given log-odds."""

    logits: Tensor  # (b, *event)

    @property
    def mean(self) -> Tensor:
        """Expectation, shape (b, *event)."""
        return self.logits.sigmoid()

    def sample(self, randomness: Randomness = None) -> Tensor:
        """Draw one value per example."""
        uniform = rand(self.logits.shape, randomness, self.logits.dtype, self.logits.device)
        return (uniform < self.mean).to(self.logits.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density or log-probability of each example in nats, shape (b,)."""
        check_same_event(value, self.logits)
        logits = self.logits.expand_as(value)
        return -sum_event(F.binary_cross_entropy_with_logits(logits, value, reduction="none"))

    def expand(self, num_examples: int) -> Bernoulli:
        """Repeat for `num_examples` examples."""
        return Bernoulli(_expand(self.logits, num_examples))


@dataclass(frozen=True)
class DiscretizedNormal:
    """Gaussian rounded to `levels` equal bins over [-1, 1]; the two end bins contain the tails (theory M10).

    Level u = 0, ..., levels - 1 has the value x = 2 u / (levels - 1) - 1. The probabilities of the levels sum to 1.
    """

    normal: Normal  # distribution of the value before rounding, on the scale of x
    levels: int = LEVELS

    @property
    def mean(self) -> Tensor:
        """Expectation, shape (b, *event)."""
        return self.normal.mean

    def sample(self, randomness: Randomness = None) -> Tensor:
        """Draw one value per example."""
        half_width = 1 / (self.levels - 1)
        grid = ((self.normal.sample(randomness) + 1) / (2 * half_width)).round()
        return grid.clamp(0, self.levels - 1) * (2 * half_width) - 1

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density or log-probability of each example in nats, shape (b,)."""
        check_same_event(value, self.mean)
        # In the tails Phi(b) - Phi(a) is 0 - 0 or 1 - 1. Mirrored to the lower tail, in logarithms, it is accurate:
        # log Phi(b) + log(1 - Phi(a) / Phi(b)).
        half_width = 1 / (self.levels - 1)
        distance = value - self.normal.mean
        side = torch.where(distance > 0, -1.0, 1.0).to(distance.dtype)
        near = (side * distance + half_width) / self.normal.std
        far = (side * distance - half_width) / self.normal.std
        # If the square of `far` overflows float32, both logs are -inf and their difference is NaN. 1e18 exceeds any
        # useful value.
        near, far = near.clamp(min=-1e18, max=1e18), far.clamp(min=-1e18, max=1e18)
        log_near, log_far = torch.special.log_ndtr(near), torch.special.log_ndtr(far)
        inner = log_near + (-(log_far - log_near).expm1()).clamp(min=torch.finfo(near.dtype).tiny).log()
        # An end bin extends to infinity: it is a whole tail, or all but a tail if the mean lies beyond it.
        at_end = torch.where(value > 0, value > 1 - half_width, value < half_width - 1)
        outward = (value > 0) == (distance > 0)
        tail = torch.where(outward, log_near, torch.special.log_ndtr(-far))
        return sum_event(torch.where(at_end, tail, inner))

    def expand(self, num_examples: int) -> DiscretizedNormal:
        """Repeat for `num_examples` examples."""
        return DiscretizedNormal(self.normal.expand(num_examples), self.levels)


@dataclass(frozen=True)
class Dirichlet:
    """Dirichlet(concentration) on the simplex of K >= 2 corners."""

    concentration: Tensor  # (b, K), positive

    @property
    def mean(self) -> Tensor:
        """Expectation, shape (b, *event)."""
        return self.concentration / self.concentration.sum(-1, keepdim=True)

    def sample(self, randomness: Randomness = None) -> Tensor:
        """Draw one value per example."""
        # In logarithms, because a gamma variate underflows for a small concentration. G(a) = G(a + 1) U^(1/a) in
        # distribution.
        a = self.concentration
        if randomness is None:
            gamma = torch._standard_gamma(a + 1)
        elif isinstance(randomness, torch.Generator):
            gamma = torch._standard_gamma(a.to(randomness.device) + 1, generator=randomness).to(a.device)
        else:
            rows = [torch._standard_gamma(row.to(g.device) + 1, generator=g) for row, g in zip(a, randomness)]
            gamma = torch.stack(rows).to(a.device)
        log_gamma = gamma.log() + rand(a.shape, randomness, a.dtype, a.device).log() / a
        # Near a corner, entries underflow to 0, where the density is 0 or inf. Clamp them to the smallest number.
        return log_gamma.softmax(-1).clamp(min=torch.finfo(a.dtype).tiny)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density or log-probability of each example in nats, shape (b,)."""
        a = self.concentration
        log_norm = torch.lgamma(a).sum(-1) - torch.lgamma(a.sum(-1))
        return torch.xlogy(a - 1, value).sum(-1) - log_norm

    def expand(self, num_examples: int) -> Dirichlet:
        """Repeat for `num_examples` examples."""
        return Dirichlet(_expand(self.concentration, num_examples))


@dataclass(frozen=True)
class Multinomial:
    """Counts of `total_count` independent draws from K categories.

    total_count is needed for sampling only; `log_prob` takes the total from the count vector.
    """

    probs: Tensor  # (b, K)
    total_count: int | None = None

    @property
    def mean(self) -> Tensor:
        """Expectation, shape (b, *event)."""
        return self.probs * self._known_total()

    def sample(self, randomness: Randomness = None) -> Tensor:
        """Draw one value per example."""
        total = self._known_total()
        if total == 0:
            return torch.zeros_like(self.probs)
        if randomness is None:
            draws = torch.multinomial(self.probs, total, replacement=True)
        elif isinstance(randomness, torch.Generator):
            probs = self.probs.to(randomness.device)
            draws = torch.multinomial(probs, total, replacement=True, generator=randomness).to(self.probs.device)
        else:
            if len(randomness) != len(self.probs):
                raise ValueError(
                    f"one generator per example: expected {len(self.probs)} generators, got {len(randomness)}"
                )
            rows = [
                torch.multinomial(p.to(g.device), total, replacement=True, generator=g)
                for p, g in zip(self.probs, randomness)
            ]
            draws = torch.stack(rows).to(self.probs.device)
        return torch.zeros_like(self.probs).scatter_add_(1, draws, torch.ones_like(draws, dtype=self.probs.dtype))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density or log-probability of each example in nats, shape (b,)."""
        value = value.to(self.probs.dtype)  # float32 loses whole nats for large counts
        coefficient = torch.lgamma(value.sum(-1) + 1) - torch.lgamma(value + 1).sum(-1)
        return coefficient + torch.xlogy(value, self.probs).sum(-1)

    def expand(self, num_examples: int) -> Multinomial:
        """Repeat for `num_examples` examples."""
        return Multinomial(_expand(self.probs, num_examples), self.total_count)

    def _known_total(self) -> int:
        if self.total_count is None:
            raise ValueError(
                "drawing counts needs their total: build the model with total_count=, e.g. total_count=100"
            )
        return self.total_count


def repeat(law: Law, times: int) -> Law:
    """Repeat a batch of distributions as one batch of times * b examples."""
    law = law.expand(len(law.mean))  # shared parameters are repeated as well
    parts = {field.name: getattr(law, field.name) for field in dataclasses.fields(cast(Any, law))}
    repeated = {
        name: copies(value, times) if isinstance(value, Tensor) else repeat(value, times)
        for name, value in parts.items()
        if isinstance(value, Tensor) or (dataclasses.is_dataclass(value) and hasattr(value, "log_prob"))
    }
    return dataclasses.replace(cast(Any, law), **repeated)


def copies(batch: Tensor, times: int) -> Tensor:
    """Repeat the whole batch `times` times, one copy after another: (b, *event) -> (times * b, *event)."""
    return batch.repeat(times, *[1] * (batch.dim() - 1))


def _expand(tensor: Tensor, num_examples: int) -> Tensor:
    return tensor.expand(num_examples, *tensor.shape[1:])
