"""Mixture of Gaussians, the smallest world whose best denoiser is not affine (theory M8, M14)."""

from __future__ import annotations

import torch
from torch import Tensor

from kakusan.errors import InputError
from kakusan.oracles.gaussian import GaussianWorld
from kakusan.oracles.inputs import F64, Numbers, dtype_of, level, numbers, vector
from kakusan.oracles.world import NoisyWorld

MAX_NODES = 400_000  # largest number of nodes of a quadrature
ROWS = 200_000  # rows of z at a time


class MixtureWorld(NoisyWorld):
    """World of a Gaussian mixture, x ~ sum_k weights_k N(means_k, covs_k) in D dimensions.

    With covs = 0 it is a list of points, and its denoiser is that of a network that has memorized a data set. Averages
    over z (`mmse`, `entropy`, `mean_bound`, ...) are computed by quadrature, and only in one dimension.

    Args:
        weights: K positive numbers whose sum is 1.
        means: (K, D), or K numbers for D = 1.
        covs: (K, D, D), or K variances for D = 1.
    """

    def __init__(self, weights: Numbers, means: Numbers, covs: Numbers):
        self.weights, dtype = vector("weights", weights), dtype_of(covs)
        means, covs = numbers("means", means), numbers("covs", covs)
        means, covs = (each.reshape(1) if each.dim() == 0 else each for each in (means, covs))
        if len(means) != len(self.weights) or len(covs) != len(self.weights):
            raise InputError(
                f"a mixture of {len(self.weights)} weights needs as many means and covs, got {len(means)} and {len(covs)}"
            )
        rounding = max(1e-9, len(self.weights) * torch.finfo(dtype_of(weights)).eps)
        if (self.weights <= 0).any() or abs(self.weights.sum().item() - 1) > rounding:
            raise InputError(f"weights must be positive and sum to 1, got {self.weights.tolist()}")
        self.weights = self.weights / self.weights.sum()
        self.parts = [GaussianWorld(mean, cov.to(dtype)) for mean, cov in zip(means, covs)]
        self.num_dims = self.parts[0].num_dims

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw n examples, shape (n, D)."""
        which = (
            torch.multinomial(self.weights, n, replacement=True, generator=generator) if n else torch.zeros(0).long()
        )
        draws = torch.stack([part.sample(n, generator) for part in self.parts])
        return draws[which, torch.arange(n)]

    def power(self) -> Tensor:
        """Expected squared norm of x."""
        return (self.weights * torch.stack([part.power() for part in self.parts])).sum()

    def noisy_log_prob(self, z: Tensor, a: Numbers, b: Numbers) -> Tensor:
        """Log-density of z = a x + b eps in nats, shape (n,)."""
        return self._log_joint(z, a, b).logsumexp(0)

    def responsibilities(self, z: Tensor, a: Numbers, b: Numbers) -> Tensor:
        """Probability of each component given z, shape (K, n)."""
        return self._log_joint(z, a, b).softmax(0)

    def denoise(self, z: Tensor, a: Numbers, b: Numbers) -> Tensor:
        """E[x | z] for z = a x + b eps, shape (n, D)."""
        x_hat = torch.stack([part.denoise(z, a, b) for part in self.parts])
        return torch.einsum("kn,knd->nd", self.responsibilities(z, a, b), x_hat)

    def denoise_cov(self, z: Tensor, a: Numbers, b: Numbers) -> Tensor:
        """Cov[x | z], shape (n, D, D), as the sum of the covariances within and between components."""
        share = self.responsibilities(z, a, b)
        within = torch.stack([part.denoise_cov(z, a, b) for part in self.parts])
        x_hat = torch.stack([part.denoise(z, a, b) for part in self.parts])
        off = x_hat - torch.einsum("kn,knd->nd", share, x_hat)
        return torch.einsum("kn,knij->nij", share, within) + torch.einsum("kn,kni,knj->nij", share, off, off)

    def entropy(self, a: float = 1.0, b: float = 0.0) -> Tensor:
        """Differential entropy of a x + b eps in nats."""
        z, weights = self.nodes(a, b)
        return -(weights * self.noisy_log_prob(z.reshape(-1, 1), a, b)).sum()

    def denoise_var(self, z: Tensor, a: Numbers, b: Numbers) -> Tensor:
        """Var[x | z] of each coordinate, shape (n, D)."""
        share, x_hat = self.responsibilities(z, a, b), torch.stack([part.denoise(z, a, b) for part in self.parts])
        within = torch.stack([part.denoise_var(z, a, b) for part in self.parts])
        off = x_hat - torch.einsum("kn,knd->nd", share, x_hat)
        return torch.einsum("kn,knd->nd", share, within + off.square())

    def expected_var(self, a: Numbers, b: Numbers) -> Tensor:
        """Mean of Var[x | z] over z for each coordinate, shape (L, D) for L levels."""
        a, b = torch.broadcast_tensors(*level(a, b))
        z, weights = self.nodes(a, b)
        rows = []
        for at in torch.arange(len(z)).split(max(1, ROWS // z.shape[1])):
            levels = (each[at].expand(-1, z.shape[1]).flatten() for each in (a, b))
            var = self.denoise_var(z[at].reshape(-1, 1), *levels)
            rows.append((weights[at] * var.view(len(at), -1)).sum(1, keepdim=True))
        return torch.cat(rows)

    def nodes(self, a: Numbers, b: Numbers) -> tuple[Tensor, Tensor]:
        """Quadrature nodes z and weights w, each (L, m), with sum w f(z) = E f(z) at each of L levels for smooth f.

        This is the trapezoid rule in one dimension, up to 12 standard deviations beyond the outermost means. It converges
        exponentially, because the step resolves the narrowest component and the transitions between components.
        """
        if self.num_dims != 1:
            raise InputError(
                f"averages over z need a world of one dimension, this one has {self.num_dims}; use draws of z instead"
            )
        a, b = torch.broadcast_tensors(*level(a, b))
        mean = a * torch.cat([part.mean for part in self.parts])
        std = (a.square() * torch.cat([part.cov[0] for part in self.parts]) + b.square()).sqrt()
        low, high = (mean - 12 * std).amin(1), (mean + 12 * std).amax(1)
        # Neither a Gaussian nor a logistic function of slope apart / var has a pole nearer than these steps resolve.
        apart = mean.amax(1) - mean.amin(1)
        step = torch.minimum(std.amin(1) / 3, std.amin(1).square() / (2 * apart))
        num = ((high - low) / step).max()
        if not num < MAX_NODES:
            raise InputError("components are too narrow for the quadrature; choose a level with more noise b")
        place = torch.linspace(0, 1, int(num) + 2, dtype=F64)
        z = low[:, None] + (high - low)[:, None] * place
        levels = (each.expand(-1, z.shape[1]).flatten() for each in (a, b))
        density = self.noisy_log_prob(z.reshape(-1, 1), *levels).exp().view_as(z)
        return z, density * (z[:, 1:2] - z[:, :1])  # the density at both ends is negligible

    def _log_joint(self, z: Tensor, a: Numbers, b: Numbers) -> Tensor:
        """Log of weight times density of each component, shape (K, n)."""
        logs = torch.stack([part.noisy_log_prob(z, a, b) for part in self.parts])
        return logs + self.weights.log()[:, None]
