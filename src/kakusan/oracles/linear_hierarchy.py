"""Linear VAE with two levels, whose third term has the form of the ELBO or of the study notes (O4, E5)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kakusan.errors import InputError
from kakusan.oracles.gaussian import GaussianWorld
from kakusan.oracles.inputs import F64, Numbers, examples, matrix, vector


@dataclass(frozen=True)
class AffineEncoders:
    """Encoders q(z1 | x) = N(weight1 x + bias1, diag(std1^2)), q(z2 | z1) = N(weight2 z1 + bias2, diag(std2^2))."""

    weight1: Numbers  # (H1, D)
    bias1: Numbers
    std1: Numbers
    weight2: Numbers  # (H2, H1)
    bias2: Numbers
    std2: Numbers


class LinearHierarchyWorld:
    """World of two levels: z2 ~ N(0, I), z1 | z2 ~ N(weight2 z2 + bias2, I), x | z1 ~ N(weight1 z1 + bias1, I).

    Args:
        weight1: (D, H1).
        bias1: (D,).
        weight2: (H1, H2).
        bias2: (H1,).
    """

    def __init__(self, weight1: Numbers, bias1: Numbers, weight2: Numbers, bias2: Numbers):
        self.bias1, self.bias2 = vector("bias1", bias1), vector("bias2", bias2)
        self.weight1 = matrix("weight1", weight1, len(self.bias1), len(self.bias2))
        self.weight2 = matrix("weight2", weight2, len(self.bias2))
        self.num_dims = len(self.bias1)
        self.sizes = self.weight2.shape  # H1, H2
        prior1 = self.weight2 @ self.weight2.T + torch.eye(self.sizes[0], dtype=F64)
        self.data = GaussianWorld(
            self.weight1 @ self.bias2 + self.bias1,
            self.weight1 @ prior1 @ self.weight1.T + torch.eye(self.num_dims, dtype=F64),
        )

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw n examples x, shape (n, D)."""
        return self.data.sample(n, generator)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density log p(x) in nats, shape (n,)."""
        return self.data.log_prob(x)

    def terms(self, x: Tensor, encoders: AffineEncoders) -> dict[str, Tensor]:
        """Exact terms in nats, each (n,), with the signs of the ELBO.

        "reconstruction" J1 and "level 2" J2 belong to both forms, and "level 1" is J3 of the ELBO. "level 1, notes" is
        J3 of the study notes, which lacks the covariance of z1 with its reconstruction from z2 (E5).
        """
        x, q = examples("x", x, self.num_dims), self._checked(encoders)
        mean1 = x @ q.weight1.T + q.bias1
        mean2 = mean1 @ q.weight2.T + q.bias2
        var1, var2 = q.std1.square(), q.std2.square()
        cov2 = (q.weight2 * var1) @ q.weight2.T + var2.diag()  # covariance of z2 given x
        squared = (x - self.bias1 - mean1 @ self.weight1.T).square().sum(1) + var1 @ self.weight1.square().sum(0)
        kl2 = 0.5 * (mean2.square().sum(1) + cov2.trace() - len(var2) - var2.log().sum())
        off = (mean1 - mean2 @ self.weight2.T - self.bias2).square().sum(1)
        notes = -0.5 * (off + (self.weight2 @ cov2 @ self.weight2.T).trace() + (var1 - 1 - var1.log()).sum())
        return {
            "reconstruction": -0.5 * (self.num_dims * math.log(2 * math.pi) + squared),
            "level 2": -kl2,
            "level 1": notes + self.covariance_with_reconstruction(encoders),
            "level 1, notes": notes,
        }

    def elbo(self, x: Tensor, encoders: AffineEncoders) -> Tensor:
        """Exact ELBO in nats, shape (n,)."""
        terms = self.terms(x, encoders)
        return terms["reconstruction"] + terms["level 2"] + terms["level 1"]

    def notes_form(self, x: Tensor, encoders: AffineEncoders) -> Tensor:
        """Objective of the study notes in nats, shape (n,); it is a bound of log p(x) but not the ELBO (S19)."""
        terms = self.terms(x, encoders)
        return terms["reconstruction"] + terms["level 2"] + terms["level 1, notes"]

    def covariance_with_reconstruction(self, encoders: AffineEncoders) -> Tensor:
        """Covariance sum_h Cov_q(z1_h, E[z1_h | z2]), shape (), which is the ELBO minus the notes' form."""
        q = self._checked(encoders)
        return ((self.weight2 @ q.weight2).diag() * q.std1.square()).sum()

    def mutual_information(self, encoders: AffineEncoders) -> Tensor:
        """Mutual information I_q(z1; z2 | x) in nats, shape (), equal for all x."""
        q = self._checked(encoders)
        cov2 = (q.weight2 * q.std1.square()) @ q.weight2.T + q.std2.square().diag()
        return 0.5 * (torch.logdet(cov2) - q.std2.square().log().sum())

    def _checked(self, encoders: AffineEncoders) -> _Tensors:
        size1, size2 = self.sizes
        tensors = _Tensors(
            matrix("weight1 of the encoders", encoders.weight1, size1, self.num_dims),
            vector("bias1 of the encoders", encoders.bias1, size1),
            vector("std1 of the encoders", encoders.std1, size1),
            matrix("weight2 of the encoders", encoders.weight2, size2, size1),
            vector("bias2 of the encoders", encoders.bias2, size2),
            vector("std2 of the encoders", encoders.std2, size2),
        )
        if (torch.cat([tensors.std1, tensors.std2]) <= 0).any():
            raise InputError(
                "std1 and std2 of the encoders must be positive; give standard deviations, not their logarithms"
            )
        return tensors


@dataclass(frozen=True)
class _Tensors:
    """Checked `AffineEncoders` in float64."""

    weight1: Tensor
    bias1: Tensor
    std1: Tensor
    weight2: Tensor
    bias2: Tensor
    std2: Tensor
