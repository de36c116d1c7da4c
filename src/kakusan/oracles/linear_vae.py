"""Linear VAE (probabilistic PCA): evidence, posterior, and the ELBO of any Gaussian encoder (O6)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kakusan.errors import InputError
from kakusan.oracles.gaussian import GaussianWorld
from kakusan.oracles.inputs import F64, Numbers, examples, matrix, numbers, vector


class LinearVAEWorld:
    """World of a linear VAE: z ~ N(0, I) in H dimensions, and x | z ~ N(weight z + bias, noise_var I) in D dimensions.

    Then x ~ N(bias, W W^T + noise_var I) with W = weight.

    Args:
        weight: W, (D, H).
        bias: (D,).
        noise_var: Variance of x given z; 1 in the notes.
    """

    def __init__(self, weight: Numbers, bias: Numbers, noise_var: float = 1.0):
        self.bias = vector("bias", bias)
        self.weight = matrix("weight", weight, len(self.bias))
        if not noise_var > 0:
            raise InputError(f"noise_var must be positive, got {noise_var}")
        self.noise_var = float(noise_var)
        self.num_dims, self.latent_dims = self.weight.shape
        self.precision = torch.eye(self.latent_dims, dtype=F64) + self.weight.T @ self.weight / self.noise_var
        self.data = GaussianWorld(
            self.bias, self.weight @ self.weight.T + self.noise_var * torch.eye(self.num_dims, dtype=F64)
        )

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw n examples x, shape (n, D)."""
        return self.data.sample(n, generator)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density log p(x) in nats, shape (n,)."""
        return self.data.log_prob(x)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (n, H) and covariance (H, H) of p(z | x)."""
        cov = torch.linalg.inv(self.precision)
        return (examples("x", x, self.num_dims) - self.bias) @ self.weight @ cov / self.noise_var, cov

    def best_diagonal(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (n, H) and variance (H,) of the q(z | x) with independent coordinates that has the highest ELBO."""
        return self.posterior(x)[0], 1 / self.precision.diag()

    def gap_of_the_best_diagonal(self) -> Tensor:
        """Gap in nats between log p(x) and the ELBO of `best_diagonal`; 0 if the columns of W are orthogonal.

        It is equal for all x.
        """
        return 0.5 * (self.precision.diag().log().sum() - torch.logdet(self.precision))

    def terms(self, x: Tensor, mean: Tensor, var: Numbers) -> dict[str, Tensor]:
        """Terms of the exact ELBO of q(z | x) = N(mean, diag(var)) in nats, each (n,).

        Args:
            x: (n, D).
            mean: Mean of q, (n, H).
            var: Variance of q, (n, H) or (H,).
        """
        x, mean, var = examples("x", x, self.num_dims), examples("mean", mean, self.latent_dims), numbers("var", var)
        if (var <= 0).any():
            raise InputError(f"var must be positive, got {var.min().item():g}; give variances, not their logarithms")
        if var.shape not in ((), (1,), mean.shape[1:], mean.shape):
            raise InputError(
                f"var must have shape {tuple(mean.shape)} or ({self.latent_dims},), got {tuple(var.shape)}"
            )
        var = var.expand_as(mean)
        squared = (x - self.bias - mean @ self.weight.T).square().sum(1) + var @ self.weight.square().sum(0)
        log_norm = 0.5 * self.num_dims * math.log(2 * math.pi * self.noise_var)
        kl = 0.5 * (mean.square() + var - 1 - var.log()).sum(1)
        return {"reconstruction": -log_norm - squared / (2 * self.noise_var), "kl": kl}

    def elbo(self, x: Tensor, mean: Tensor, var: Numbers) -> Tensor:
        """Exact ELBO of q(z | x) = N(mean, diag(var)) in nats, shape (n,); arguments as in `terms`."""
        terms = self.terms(x, mean, var)
        return terms["reconstruction"] - terms["kl"]
