"""Guess the data, noise the guess anew, guess again: for a network that guesses whole pictures, as a distilled student."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from kakusan.models.diffusion import Diffusion
from kakusan.noise import Randomness, randn
from kakusan.solvers.levels import Levels, Step, last, start


def renoise(model: Diffusion, n: int, randomness: Randomness = None) -> Tensor:
    """z_{t-1} ~ q(z_{t-1} | x = the data estimate from z_t), the last step the estimate itself; a network call a step.

    Every guess has the data's law if the network makes the data's law out of noised data, at whatever level. A perfect
    denoiser does not: it answers with the mean of what the data may be, and samples then have less spread than data.

    Source: Song et al. 2023, "Consistency models", algorithm 1.
    """
    return last(renoise_steps(model, n, randomness))


@torch.no_grad()
def renoise_steps(model: Diffusion, n: int, randomness: Randomness = None) -> Iterator[Step]:
    """Yields (z_{t-1}, the data estimate from z_t) for t = T, ..., 1."""
    (model, z), level = start(model, n, randomness), Levels.of(model)
    for t in range(model.depth, 0, -1):
        x_hat = model.data_estimate(z, t)
        z = x_hat
        if t > 1:
            fresh = randn(z.shape, randomness, z.dtype, z.device)
            z = level.signal[t - 1] * x_hat + level.noise[t - 1] * fresh
        yield z, x_hat
