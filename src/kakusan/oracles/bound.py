"""Exact ELBO of a chain from the expected squared errors of its denoiser, in closed form (theory M5 and M7)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from kakusan.errors import InputError
from kakusan.oracles.inputs import Numbers, numbers
from kakusan.oracles.noising import Noising

Choice = Literal["unit", "beta", "beta_tilde", "optimal", "optimal_diagonal"]


@dataclass(frozen=True)
class Bound:
    """Terms of an ELBO in nats, each of shape () for a mean over the data or (n,) for n examples."""

    reconstruction: Tensor  # E log p(x | z_1)
    prior_kl: Tensor  # KL(q(z_T | x) || N(0, I))
    step_kl: Tensor  # (T - 1,) or (T - 1, n): E KL(q(z_{t-1} | z_t, x) || p(z_{t-1} | z_t)) for t = 2..T

    @property
    def elbo(self) -> Tensor:
        """ELBO in nats; higher is better."""
        return self.reconstruction - self.prior_kl - self.step_kl.sum(0)


def reverse_var(choice: Choice | Numbers, tables: Noising, left: Tensor) -> Tensor:
    """Variance of p(z_{t-1} | z_t) for t = 1..T, shape (T, 1) or (T, D).

    Args:
        choice: "unit", "beta" or "beta_tilde" (with beta_tilde_2 at t = 1, where beta_tilde is 0; beta_1 if T = 1). The
            variances with the highest ELBO are "optimal" (one per step) and "optimal_diagonal" (one per step and
            dimension). Numbers (T,) or (T, D) are used as they are.
        tables: Noise tables.
        left: E Var(x_d | z_t), shape (T, D).
    """
    between, from_x = tables.between_var[1:, None], tables.from_x[1:, None]
    if not isinstance(choice, str):
        var = numbers("variance", choice)
        var = var[:, None] if var.dim() == 1 else var
        if var.dim() != 2 or len(var) != tables.depth or var.shape[1] not in (1, left.shape[1]) or (var <= 0).any():
            raise InputError(
                f"variance must be one positive number per step, T = {tables.depth} of them, or a row of "
                f"{left.shape[1]} per step, got shape {tuple(var.shape)} and least {var.min().item():g}"
            )
        return var
    match choice:
        case "unit":
            return torch.ones_like(between)
        case "beta":
            return tables.beta[1:, None]
        case "beta_tilde":
            second = between[1:2] if tables.depth > 1 else tables.beta[1:, None]
            return torch.cat([second, between[1:]])
        case "optimal":
            return between + from_x.square() * left.mean(1, keepdim=True)
        case "optimal_diagonal":
            return between + from_x.square() * left
    raise InputError(f"variance must be numbers or one of {', '.join(get_args(Choice))}, got {choice!r}")


def exact_bound(tables: Noising, var: Tensor, squared_error: Tensor, power: Tensor) -> Bound:
    """Compute the bound of a chain from the expected squared errors of its denoiser.

    Args:
        tables: Noise tables.
        var: Variance of the reverse steps, shape (T, 1) or (T, D).
        squared_error: E (x - x_hat(z_t))_d^2 for t = 1..T, shape (T, D) or (T, n, D).
        power: |x|^2 of each example (n,), or its mean ().
    """
    num_dims = squared_error.shape[-1]
    if squared_error.dim() == 3:
        var = var[:, None]
    var = var.expand_as(squared_error)
    shape = (-1, *[1] * (squared_error.dim() - 1))
    first = -0.5 * ((2 * math.pi * var[0]).log() + squared_error[0] / var[0]).sum(-1)
    ratio = tables.between_var[2:].view(shape) / var[1:]
    error = tables.from_x[2:].view(shape).square() * squared_error[1:] / var[1:]
    steps = 0.5 * (ratio - 1 - ratio.log() + error).sum(-1)
    alpha_bar = tables.a[-1].square()
    prior = 0.5 * (alpha_bar * (power - num_dims) - num_dims * torch.log1p(-alpha_bar))
    return Bound(first, prior, steps)
