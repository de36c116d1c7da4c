"""Gaussian data, for which everything about a diffusion model has a closed form (theory M1 to M9)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kakusan.errors import InputError
from kakusan.oracles.bound import Bound, Choice, exact_bound, reverse_var
from kakusan.oracles.inputs import F64, Numbers, covariance, examples, level, vector
from kakusan.oracles.noising import Noising, noising
from kakusan.oracles.world import NoisyWorld


class GaussianWorld(NoisyWorld):
    """World of Gaussian data, x ~ N(mean, cov) in D dimensions; with a singular cov, only noisy data have a density."""

    def __init__(self, mean: Numbers, cov: Numbers):
        self.mean = vector("mean", mean)
        self.num_dims = len(self.mean)
        # Along the principal axes the coordinates are independent.
        self.cov, self._var, self._axes = covariance("cov", cov, self.num_dims)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw n examples, shape (n, D)."""
        eps = torch.randn(n, self.num_dims, generator=generator, dtype=F64)
        return self.mean + (eps * self._var.sqrt()) @ self._axes.T

    def power(self) -> Tensor:
        """Expected squared norm of x."""
        return self.mean.square().sum() + self._var.sum()

    def noisy_log_prob(self, z: Tensor, a: Numbers, b: Numbers) -> Tensor:
        """Log-density of z = a x + b eps in nats, shape (n,)."""
        along, (a, b) = self._along_axes(z, a, b), level(a, b)
        var = self._with_density(a, b)
        return -0.5 * (along.square() / var + (2 * math.pi * var).log()).sum(1)

    def entropy(self, a: float = 1.0, b: float = 0.0) -> Tensor:
        """Differential entropy of a x + b eps in nats."""
        return 0.5 * ((2 * math.pi * self._with_density(*level(a, b))).log() + 1).sum()

    def denoise(self, z: Tensor, a: Numbers, b: Numbers) -> Tensor:
        """E[x | z] for z = a x + b eps, shape (n, D)."""
        return self.mean + (self._along_axes(z, a, b) * self._gain(*level(a, b))) @ self._axes.T

    def denoise_cov(self, z: Tensor, a: Numbers, b: Numbers) -> Tensor:
        """Cov[x | z], shape (n, D, D)."""
        left = self._left(*level(a, b)).expand(len(z), -1)
        return torch.einsum("id,nd,jd->nij", self._axes, left, self._axes)

    def denoise_var(self, z: Tensor, a: Numbers, b: Numbers) -> Tensor:
        """Var[x | z] of each coordinate, shape (n, D)."""
        return self.expected_var(a, b).expand(len(z), -1)

    def expected_var(self, a: Numbers, b: Numbers) -> Tensor:
        """Mean of Var[x | z] over z for each coordinate, shape (L, D) for L levels."""
        return self._left(*level(a, b)) @ self._axes.square().T

    # The bound and the generated distribution

    def bound(self, x: Tensor, betas: Noising | Numbers, variance: Choice | Numbers = "beta") -> Bound:
        """Exact terms of the ELBO of the perfect denoiser for each x; arguments as in `mean_bound`."""
        x, tables = examples("x", x, self.num_dims), noising(betas)
        a, b = tables.a[1:, None], tables.b[1:, None]
        # x - x_hat(z) = (1 - a gain)(x - mean) - b gain eps along each axis, and its square per dimension
        gain = self._gain(a, b)
        shift = torch.einsum("tk,nk,dk->tnd", 1 - a * gain, (x - self.mean) @ self._axes, self._axes)
        noise = (b * gain).square() @ self._axes.square().T
        var = reverse_var(variance, tables, self.expected_var(a, b))
        return exact_bound(tables, var, shift.square() + noise[:, None], x.square().sum(1))

    def exact_elbo(
        self, betas: Noising | Numbers, variance: Choice | Numbers = "beta", x: Tensor | None = None
    ) -> Tensor:
        """Exact ELBO of the perfect denoiser in nats, for each x (n,), or without x its mean over the data ()."""
        return self.mean_bound(betas, variance).elbo if x is None else self.bound(x, betas, variance).elbo

    def generated_law(
        self, betas: Noising | Numbers, variance: Choice | Numbers = "beta", last_noise: bool = True
    ) -> GaussianWorld:
        """Distribution of ancestral samples with the perfect denoiser, from z_T ~ N(0, I) (S41, O17, O23).

        Args:
            betas: beta_1, ..., beta_T.
            variance: Variance of the reverse steps, a name or numbers; see `reverse_var`.
            last_noise: Whether the step from z_1 to x adds noise; many samplers omit it (M13).
        """
        tables = noising(betas)
        var = reverse_var(variance, tables, self.expected_var(tables.a[1:], tables.b[1:])).expand(-1, self.num_dims)
        eye = torch.eye(self.num_dims, dtype=F64)
        mean, cov = torch.zeros(self.num_dims, dtype=F64), eye
        gain = self._gain(*level(tables.a, tables.b))
        denoise = torch.einsum("ik,tk,jk->tij", self._axes, gain, self._axes)
        step = tables.from_x[:, None, None] * denoise + tables.from_z[:, None, None] * eye
        shift = tables.from_x[:, None] * (self.mean - tables.a[:, None] * (denoise @ self.mean))
        for t in range(tables.depth, 0, -1):
            mean, cov = step[t] @ mean + shift[t], step[t] @ cov @ step[t].T
            if t > 1 or last_noise:
                cov = cov + var[t - 1].diag()
        return GaussianWorld(mean, (cov + cov.T) / 2)

    def transport(self, z: Tensor, start: tuple[Numbers, Numbers], end: tuple[Numbers, Numbers]) -> Tensor:
        """Solve the probability-flow equation exactly from z at the level `start` to the level `end`, shape (n, D).

        The solution keeps every standardized coordinate constant. It is the limit of any consistent deterministic
        solver. Source: Song et al. 2021, "Score-based generative modeling through stochastic differential equations",
        section 4.3.
        """
        (a, b), (a_end, b_end) = level(*start), level(*end)
        ratio = (a_end.square() * self._var + b_end.square()) / self._with_density(a, b)
        return a_end * self.mean + (self._along_axes(z, *start) * ratio.sqrt()) @ self._axes.T

    # Along the principal axes

    def _along_axes(self, z: Tensor, a: Numbers, b: Numbers) -> Tensor:
        """Coordinates of z - a E[x] along the principal axes, shape (n, D)."""
        return (examples("z", z, self.num_dims) - level(a, b)[0] * self.mean) @ self._axes

    def _with_density(self, a: Tensor, b: Tensor) -> Tensor:
        """Variances of z along the principal axes, shape (L, D); InputError unless all are positive."""
        var = a.square() * self._var + b.square()
        if (var <= 0).any():
            raise InputError(
                "a distribution with variance 0 in some direction has no density; choose a level with b > 0"
            )
        return var

    def _gain(self, a: Tensor, b: Tensor) -> Tensor:
        """Slope of E[x | z] in z along the principal axes, shape (L, D); 0 where z has variance 0."""
        var = a.square() * self._var + b.square()
        return torch.where(var > 0, a * self._var / var, 0.0)

    def _left(self, a: Tensor, b: Tensor) -> Tensor:
        """Var(x | z) along the principal axes, shape (L, D)."""
        var = a.square() * self._var + b.square()
        return torch.where(var > 0, self._var * b.square() / var, 0.0)
