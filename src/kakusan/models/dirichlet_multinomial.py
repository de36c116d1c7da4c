"""The Dirichlet-multinomial model, whose posterior and evidence have closed forms (S59-S68).

z ~ Dirichlet(alpha) on the simplex, x | z ~ Multinomial(n, z), posterior Dirichlet(x + alpha).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kakusan.chain import LatentChain
from kakusan.checks import check_values, numbers
from kakusan.distributions import Dirichlet, Multinomial
from kakusan.errors import InputError
from kakusan.noise import Randomness


class DirichletMultinomial(nn.Module, LatentChain):
    """Counts over K >= 2 categories with a Dirichlet prior on their probabilities.

    Methods take counts of shape (K,) or (b, K) and return nats of shape () or (b,), in the dtype of the
    concentration. As a `LatentChain` of depth 1 its encoder is the exact posterior, so the bound is tight on every path.

    Args:
        concentration: alpha, K positive numbers.
        total_count: n, needed only to draw counts.

    Raises:
        InputError: If K < 2, where the simplex is one point and every gamma would be stationary (E26). Also if the
            concentration is not positive and finite, or counts are negative, fractional, or not K of them.
    """

    depth = 1

    def __init__(self, concentration: Tensor | Sequence[float], total_count: int | None = None):
        super().__init__()
        concentration = numbers(concentration, "concentration")
        if not concentration.is_floating_point():
            concentration = concentration.to(torch.get_default_dtype())
        if concentration.dim() != 1 or len(concentration) < 2:
            raise InputError(f"concentration needs K >= 2 positive numbers, got shape {tuple(concentration.shape)}")
        _check_positive("concentration", concentration)
        if total_count is not None and (not isinstance(total_count, int) or total_count < 0):
            raise InputError(f"total_count must be a whole number, 0 or more, got {total_count!r}")
        self.register_buffer("concentration", concentration)
        self.total_count = total_count

    # The chain

    def prior(self, cond: Tensor | None = None) -> Dirichlet:
        """Return Dirichlet(alpha)."""
        return Dirichlet(self._alpha[None])

    def decode(self, z: Tensor, t: int, cond: Tensor | None = None) -> Multinomial:
        """Return p(x | z) = Multinomial(n, z)."""
        return Multinomial(z, self.total_count)

    def encode(self, z: Tensor, t: int, cond: Tensor | None = None) -> Dirichlet:
        """Return the exact posterior Dirichlet(x + alpha)."""
        return Dirichlet(self._counts(z) + self._alpha)

    def validate(self, x: Tensor, cond: Tensor | None = None) -> None:
        """Check that x is a batch of counts, shape (b, K)."""
        if not isinstance(x, Tensor) or x.dim() != 2:
            found = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise InputError(f"a batch of counts is a tensor of shape (b, K), one row per example, got {found}")
        self._counts(x)
        if cond is not None:
            raise InputError("a Dirichlet-multinomial model is unconditional; leave cond out")

    def draw_terms(self, x: Tensor, cond: Tensor | None = None, generator: Randomness = None) -> dict[str, Tensor]:
        """Reconstruction term and minus the KL of the exact posterior, both in closed form, in nats, each (b,)."""
        counts, gamma = self._counts(x), self._counts(x) + self._alpha
        reconstruction = _log_coefficient(counts) + (counts * _mean_log(gamma)).sum(-1)
        return {"reconstruction": reconstruction, "level 1": self._elbo(counts, gamma) - reconstruction}

    # Closed forms

    def log_evidence(self, counts: Tensor | Sequence[float]) -> Tensor:
        """log p(x) in nats (S65)."""
        counts, alpha = self._counts(counts), self._alpha
        ratio = torch.lgamma(counts + alpha).sum(-1) - torch.lgamma(alpha).sum()
        total = torch.lgamma(alpha.sum()) - torch.lgamma(counts.sum(-1) + alpha.sum())
        return self._out(_log_coefficient(counts) + total + ratio)

    def posterior(self, counts: Tensor | Sequence[float]) -> Tensor:
        """Concentration of p(z | x): counts + alpha (S64)."""
        return self._out(self._counts(counts) + self._alpha)

    def map_estimate(self, counts: Tensor | Sequence[float]) -> Tensor:
        """Mode of p(z | x), a point on the simplex.

        It is (c_k - 1) / sum_j (c_j - 1) for c = counts + alpha if all c_k >= 1 and one is above 1. Otherwise the
        density has no single maximum.

        Raises:
            InputError: If the posterior has no mode.
        """
        weight = self._counts(counts) + self._alpha - 1
        if (weight < 0).any() or (weight.sum(-1) <= 0).any():
            raise InputError(
                "the posterior has no single mode: every counts + concentration must be at least 1 and one above 1, "
                f"got {self.posterior(counts).min().item():g}; use posterior(counts) and its mean instead"
            )
        return self._out(weight / weight.sum(-1, keepdim=True))

    # The bound of any Dirichlet(gamma)

    def elbo(self, counts: Tensor | Sequence[float], gamma: Tensor | Sequence[float]) -> Tensor:
        """Exact ELBO for q = Dirichlet(gamma), constants included (S66); at gamma = counts + alpha, log_evidence."""
        return self._out(self._elbo(*self._pair(counts, gamma)))

    def _elbo(self, counts: Tensor, gamma: Tensor) -> Tensor:
        alpha = self._alpha
        constant = _log_coefficient(counts) + torch.lgamma(alpha.sum()) - torch.lgamma(alpha).sum()
        entropy = torch.lgamma(gamma).sum(-1) - torch.lgamma(gamma.sum(-1))
        return ((counts + alpha - gamma) * _mean_log(gamma)).sum(-1) + entropy + constant

    def elbo_grad(self, counts: Tensor | Sequence[float], gamma: Tensor | Sequence[float]) -> Tensor:
        """Gradient of `elbo` with respect to gamma, shape (..., K) (S67)."""
        return self._out(self._elbo_grad(*self._pair(counts, gamma)))

    def _elbo_grad(self, counts: Tensor, gamma: Tensor) -> Tensor:
        rest = counts + self._alpha - gamma
        total = gamma.sum(-1, keepdim=True)
        return rest * _trigamma(gamma) - _trigamma(total) * rest.sum(-1, keepdim=True)

    def natural_step(
        self, counts: Tensor | Sequence[float], gamma: Tensor | Sequence[float], size: float = 1.0
    ) -> Tensor:
        """Natural-gradient step gamma + size * F^-1 grad; a step of size 1 ends at counts + alpha (S68).

        F = diag(psi1(gamma)) - psi1(gamma_0) 11^T is the Fisher matrix of Dirichlet(gamma), inverted by the
        Sherman-Morrison formula.
        """
        counts, gamma = self._pair(counts, gamma)
        gradient = self._elbo_grad(counts, gamma)
        diagonal = _trigamma(gamma)
        scale = _trigamma(gamma.sum(-1, keepdim=True))
        scaled = gradient / diagonal
        correction = scale * scaled.sum(-1, keepdim=True) / (1 - scale * (1 / diagonal).sum(-1, keepdim=True))
        return self._out(gamma + size * (scaled + correction / diagonal))

    # Everything is computed in float64: the terms of the evidence cancel, and float32 loses whole nats.

    @property
    def _alpha(self) -> Tensor:
        return self.concentration.double()

    def _out(self, value: Tensor) -> Tensor:
        return value.to(self.concentration.dtype)

    def _counts(self, counts: Tensor | Sequence[float]) -> Tensor:
        counts = numbers(counts, "counts", torch.float64).to(self.concentration.device)
        if counts.dim() not in (1, 2) or counts.shape[-1] != len(self.concentration):
            raise InputError(
                f"counts must have shape (K,) or (b, K) with K = {len(self.concentration)}, got {tuple(counts.shape)}"
            )
        whole = (counts >= 0) & (counts == counts.round()) & counts.isfinite()
        check_values(counts, whole, "counts must be whole numbers >= 0", "give how often each category was seen")
        return counts

    def _pair(self, counts: Tensor | Sequence[float], gamma: Tensor | Sequence[float]) -> tuple[Tensor, Tensor]:
        """Check and convert counts and gamma, which have equal numbers of rows, or one of them a single row."""
        x, g = self._counts(counts), self._gamma(gamma)
        if x.dim() == g.dim() == 2 and len(x) != len(g) and 1 not in (len(x), len(g)):
            raise InputError(f"counts and gamma must have the same number of rows, got {len(x)} and {len(g)}")
        return x, g

    def _gamma(self, gamma: Tensor | Sequence[float]) -> Tensor:
        gamma = numbers(gamma, "gamma", torch.float64).to(self.concentration.device)
        if gamma.shape[-1:] != self.concentration.shape:
            raise InputError(f"gamma must have K = {len(self.concentration)} entries, got shape {tuple(gamma.shape)}")
        _check_positive("gamma", gamma)
        return gamma


def _check_positive(name: str, values: Tensor) -> None:
    right = (values > 0) & values.isfinite()
    check_values(values, right, f"every {name} must be positive and finite", "1 for each category is the flat prior")


def _mean_log(gamma: Tensor) -> Tensor:
    """E log z under Dirichlet(gamma)."""
    return torch.digamma(gamma) - torch.digamma(gamma.sum(-1, keepdim=True))


def _trigamma(x: Tensor) -> Tensor:
    """Trigamma function psi1 from the Hurwitz zeta function, because torch's polygamma(1, .) has errors of 5e-10."""
    return torch.special.zeta(torch.full_like(x, 2.0), x)


def _log_coefficient(counts: Tensor) -> Tensor:
    return torch.lgamma(counts.sum(-1) + 1) - torch.lgamma(counts + 1).sum(-1)
