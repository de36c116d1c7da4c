"""Dirichlet-multinomial evidence as an exact fraction, and the ELBO of any Dirichlet (S60 to S66)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

from kakusan.errors import InputError
from kakusan.oracles.inputs import F64

Rational = Fraction | int | float | str


class DirichletWorld:
    """World of counts: probabilities ~ Dirichlet(concentration) over K >= 2 categories, counts ~ Multinomial(probabilities).

    Args:
        concentration: K positive numbers, kept exactly. "0.1" and Fraction(1, 10) are exactly a tenth, and the float
            0.1 is the nearest binary number.
    """

    def __init__(self, concentration: Sequence[Rational]):
        self.concentration = _fractions("concentration", concentration)
        if len(self.concentration) < 2:
            raise InputError(f"concentration needs K >= 2 positive numbers, got {len(self.concentration)}")

    def evidence(self, counts: Sequence[int]) -> Fraction:
        """Evidence p(counts) as an exact fraction, computed draw by draw with a Pólya urn."""
        counts = self._counts(counts)
        balls, total = list(self.concentration), sum(self.concentration)
        probability, orders = Fraction(1), math.factorial(sum(counts))
        for k, count in enumerate(counts):
            orders //= math.factorial(count)
            for _ in range(count):
                probability *= balls[k] / total
                balls[k], total = balls[k] + 1, total + 1
        return orders * probability

    def log_evidence(self, counts: Sequence[int]) -> float:
        """Log-evidence log p(counts) in nats."""
        evidence = self.evidence(counts)
        return math.log(evidence.numerator) - math.log(evidence.denominator)

    def posterior(self, counts: Sequence[int]) -> tuple[Fraction, ...]:
        """Concentration of p(probabilities | counts)."""
        return tuple(alpha + count for alpha, count in zip(self.concentration, self._counts(counts)))

    def elbo(self, counts: Sequence[int], gamma: Sequence[Rational]) -> float:
        """Exact ELBO of q = Dirichlet(gamma) in nats: the log-evidence minus KL(q || posterior)."""
        q = [float(g) for g in _fractions("gamma", gamma, len(self.concentration))]
        p = [float(g) for g in self.posterior(counts)]
        mean_logs = [digamma(g) - digamma(sum(q)) for g in q]
        kl = math.fsum((a - b) * mean_log for a, b, mean_log in zip(q, p, mean_logs))
        kl += math.lgamma(sum(q)) - math.lgamma(sum(p))
        kl += math.fsum(math.lgamma(b) - math.lgamma(a) for a, b in zip(q, p))
        return self.log_evidence(counts) - kl

    def sample(self, n: int, total_count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw n count vectors with the given total, float64 (n, K), from the urn of `evidence`."""
        balls = torch.tensor([float(alpha) for alpha in self.concentration], dtype=F64).repeat(n, 1)
        counts = torch.zeros_like(balls)
        for _ in range(total_count if n else 0):
            drawn = torch.multinomial(balls + counts, 1, generator=generator)
            counts.scatter_add_(1, drawn, torch.ones(n, 1, dtype=F64))
        return counts

    def _counts(self, counts: Sequence[int]) -> list[int]:
        given = [float(count) for count in counts]
        if len(given) != len(self.concentration) or not all(count >= 0 and count.is_integer() for count in given):
            raise InputError(f"counts must be {len(self.concentration)} whole numbers >= 0, got {list(counts)}")
        return [int(count) for count in counts]


def digamma(x: float) -> float:
    """Derivative of log Gamma for x > 0, exact to rounding: a recurrence up to 20, then the asymptotic series."""
    shift = 0.0
    while x < 20:
        shift, x = shift - 1 / x, x + 1
    y = 1 / (x * x)
    # Bernoulli numbers B_2n / 2n; the first omitted term, 691/32760 y^6, is below 1e-17 at 20
    series = y * (1 / 12 - y * (1 / 120 - y * (1 / 252 - y * (1 / 240 - y / 132))))
    return shift + math.log(x) - 0.5 / x - series


def _fractions(name: str, values: Sequence[Rational], length: int | None = None) -> tuple[Fraction, ...]:
    try:
        fractions = tuple(Fraction(value.item() if hasattr(value, "item") else value) for value in values)
    except (ValueError, OverflowError, TypeError) as error:
        raise InputError(f"{name} must be numbers, fractions, or strings like '1/3' or '0.1', got {values}") from error
    if length not in (None, len(fractions)) or any(fraction <= 0 for fraction in fractions):
        raise InputError(f"{name} needs {length or 'K >= 2'} positive numbers, got {list(map(str, fractions))}")
    return fractions
