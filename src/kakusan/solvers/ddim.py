"""Keep the predicted noise instead of drawing new."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from kakusan.errors import InputError
from kakusan.models.diffusion import Diffusion
from kakusan.noise import Randomness, randn
from kakusan.solvers.levels import Step, last, start


def ddim(model: Diffusion, n: int, randomness: Randomness = None, eta: float = 0.0) -> Tensor:
    """Deterministic given z_T at eta = 0; a network call a step.

    eta = 1 has the variance beta_tilde of the ancestral step. Source: Song, Meng and Ermon 2021, equation 12.
    """
    return last(ddim_steps(model, n, randomness, eta))


@torch.no_grad()
def ddim_steps(model: Diffusion, n: int, randomness: Randomness = None, eta: float = 0.0) -> Iterator[Step]:
    """Yields (z_{t-1}, the data estimate from z_t) for t = T, ..., 1."""
    if not 0 <= eta <= 1:
        raise InputError(f"eta must lie in [0, 1], got {eta}; 0 draws no fresh noise")
    model, z = start(model, n, randomness)
    schedule = model.schedule
    for t in range(model.depth, 0, -1):
        x_hat = model.data_estimate(z, t)
        eps_hat = (z - schedule.alpha_bar[t].sqrt().item() * x_hat) / schedule.noise_var[t].sqrt().item()
        fresh_var = eta**2 * schedule.beta_tilde[t].item()
        kept = max(schedule.noise_var[t - 1].item() - fresh_var, 0.0) ** 0.5  # not below 0 by rounding at eta = 1
        z = schedule.alpha_bar[t - 1].sqrt().item() * x_hat + kept * eps_hat
        if fresh_var > 0:
            z = z + fresh_var**0.5 * randn(z.shape, randomness, z.dtype, z.device)
        yield z, x_hat
