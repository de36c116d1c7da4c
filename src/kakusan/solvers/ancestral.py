"""Down the generative chain itself."""

from __future__ import annotations

from torch import Tensor

from kakusan.bound import ancestral_sample
from kakusan.models.diffusion import Diffusion
from kakusan.noise import Randomness


def ancestral(model: Diffusion, n: int, randomness: Randomness = None) -> Tensor:
    """z_{t-1} ~ p(z_{t-1} | z_t), the last step without noise (M13); a network call a step.

    Source: Ho et al. 2020, algorithm 2.
    """
    return ancestral_sample(model, n, randomness, mean_output=True)
