"""What every sampler starts from: the noise levels of a chain as plain numbers, and z_T."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from kakusan.errors import InputError
from kakusan.models.diffusion import Diffusion
from kakusan.noise import Randomness

Step = tuple[Tensor, Tensor]  # (z_{t-1}, the data estimate from z_t)


@dataclass(frozen=True)
class Levels:
    """z_t = signal[t] x + noise[t] eps, and half the log signal-to-noise ratio; index 0 = data, where it is inf."""

    signal: list[float]
    noise: list[float]
    half_log_snr: list[float]

    @classmethod
    def of(cls, model: Diffusion) -> Levels:
        """From float64 tables, so that a step's coefficients are rounded once, when they meet the latents."""
        table = model.schedule
        return cls(table.alpha_bar.sqrt().tolist(), table.noise_var.sqrt().tolist(), (table.log_snr / 2).tolist())


def start(model: Diffusion, n: int, randomness: Randomness) -> tuple[Diffusion, Tensor]:
    """The chain of n samples, of clusters drawn for them if the model has some, and their z_T; InputError for fewer than none."""
    if n < 0:
        raise InputError(f"the number of samples must be 0 or more, got {n}")
    chain = model.drawn(n, randomness)
    return chain, chain.prior().expand(n).sample(randomness)


def last(steps: Iterator[Step]) -> Tensor:
    """Where the steps end: a sampler's result."""
    return deque((z for z, _ in steps), maxlen=1).pop()  # nothing but the newest is kept; a chain has a step
