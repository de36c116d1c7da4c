"""Noise tables over t = 0..T for a list of betas, from the definition of the chain; index 0 is the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from kakusan.errors import InputError
from kakusan.oracles.inputs import F64, Numbers, numbers, vector


@dataclass(frozen=True)
class Noising:
    """Tables of z_t = a_t x + b_t eps and q(z_{t-1} | z_t, x) = N(from_x_t x + from_z_t z_t, between_var_t I)."""

    beta: Tensor  # (T + 1,) like every table here; beta[0] = 0
    a: Tensor  # sqrt(alpha_bar)
    b: Tensor  # sqrt(1 - alpha_bar)
    from_x: Tensor
    from_z: Tensor
    between_var: Tensor  # 0 at t = 1, where z_0 = x

    @classmethod
    def from_betas(cls, betas: Numbers) -> Self:
        """Build the tables from beta_1, ..., beta_T, each in (0, 1)."""
        betas = vector("betas", betas)
        bad = ~((betas > 0) & (betas < 1))
        if bad.any():
            t = int(bad.nonzero()[0]) + 1
            raise InputError(f"every beta must lie in (0, 1), got beta_{t} = {betas[t - 1].item():g}")
        # The recursion z_t = sqrt(1 - beta) z_{t-1} + sqrt(beta) eps gives the variance of the noise without cancellation.
        noise_var = [0.0]
        for step in betas.tolist():
            noise_var.append((1 - step) * noise_var[-1] + step)
        beta, var = torch.cat([torch.zeros(1, dtype=F64), betas]), torch.tensor(noise_var, dtype=F64)
        a = (1 - beta).sqrt().cumprod(0)
        # Regression of z_{t-1} on z_t: given x, both are jointly Gaussian with covariance sqrt(1 - beta_t) var_{t-1}.
        before, after = var[:-1], var[1:]
        from_x, from_z = a[:-1] * betas / after, (1 - betas).sqrt() * before / after
        zero = torch.zeros(1, dtype=F64)
        return cls(
            beta,
            a,
            var.sqrt(),
            torch.cat([zero, from_x]),
            torch.cat([zero, from_z]),
            torch.cat([zero, before * betas / after]),
        )

    @classmethod
    def from_alpha_bar(cls, alpha_bar: Numbers) -> Self:
        """Build the tables from decreasing alpha_bar_1, ..., alpha_bar_T, optionally preceded by alpha_bar_0 = 1."""
        alpha_bar = numbers("alpha_bar", alpha_bar).flatten()
        if len(alpha_bar) and alpha_bar[0] != 1:
            alpha_bar = torch.cat([torch.ones(1, dtype=F64), alpha_bar])
        if len(alpha_bar) < 2 or not (alpha_bar.diff() < 0).all() or alpha_bar[-1] <= 0:
            raise InputError(
                "alpha_bar must be strictly decreasing and above 0; give the cumulative products of 1 - beta"
            )
        return cls.from_betas(-alpha_bar.diff() / alpha_bar[:-1])

    @property
    def depth(self) -> int:
        """Number of steps T."""
        return len(self.beta) - 1


def noising(schedule: Noising | Numbers) -> Noising:
    """Return given tables unchanged, or build those of a list of betas."""
    return schedule if isinstance(schedule, Noising) else Noising.from_betas(schedule)
