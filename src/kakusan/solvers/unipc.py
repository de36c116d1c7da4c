"""UniPC: predict from what is known, then correct the step with the estimate found where it led, at no further call."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import torch
from torch import Tensor

from kakusan.models.diffusion import Diffusion
from kakusan.noise import Randomness
from kakusan.solvers.adams import Known, adams_weights, exponential_step
from kakusan.solvers.levels import Levels, Step, last, start


def unipc_2(model: Diffusion, n: int, randomness: Randomness = None) -> Tensor:
    """A predictor of order 2 from two estimates; corrected, the method has order 3."""
    return last(unipc_steps(model, n, randomness, 2))


def unipc_3(model: Diffusion, n: int, randomness: Randomness = None) -> Tensor:
    """A predictor of order 3 from three estimates; corrected, the method has order 4."""
    return last(unipc_steps(model, n, randomness, 3))


@torch.no_grad()
def unipc_steps(model: Diffusion, n: int, randomness: Randomness, order: int) -> Iterator[Step]:
    """Yields (z_{t-1} as predicted, the data estimate from z_t) for t = T, ..., 1; a network call a step.

    The estimate from a predicted latent corrects the step to it, and serves the next step too. The first steps have
    fewer estimates and a lower order, in pure noise; the last one, to t = 0, is the data estimate.

    Source: Zhao et al. 2023, "UniPC", algorithms 5 to 8, in data prediction. Where the conditions on the weights are
    solved in full, as here at every order, its function B(h) drops out.
    """
    (model, z), level = start(model, n, randomness), Levels.of(model)
    known: deque[Known] = deque(maxlen=order)  # newest first
    for t in range(model.depth, 1, -1):
        if not known:
            known.appendleft((level.half_log_snr[t], model.data_estimate(z, t)))
        x_hat = known[0][1]
        predicted = exponential_step(level, t, z, known, adams_weights)
        yield predicted, x_hat
        found = (level.half_log_snr[t - 1], model.data_estimate(predicted, t - 1))
        z = exponential_step(level, t, z, [found, *known], adams_weights)
        known.appendleft(found)
    x_hat = known[0][1] if known else model.data_estimate(z, 1)
    yield x_hat, x_hat
