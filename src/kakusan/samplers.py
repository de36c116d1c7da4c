"""From noise to data in K steps. A sampler is a function of (model, n, randomness); register it in SAMPLERS."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from kakusan.bound import ancestral_sample
from kakusan.diffusion import Diffusion
from kakusan.errors import InputError
from kakusan.noise import Randomness, randn


def ancestral(model: Diffusion, n: int, randomness: Randomness = None) -> Tensor:
    """Down the generative chain itself, the last step without noise (M13). Source: Ho et al. 2020, algorithm 2."""
    return ancestral_sample(model, n, randomness, mean_output=True)


def ddim(model: Diffusion, n: int, randomness: Randomness = None, eta: float = 0.0) -> Tensor:
    """Keep the predicted noise instead of drawing new: deterministic given z_T at eta = 0.

    eta = 1 has the variance beta_tilde of the ancestral step. Source: Song, Meng and Ermon 2021, equation 12.
    """
    z = None
    for step in ddim_steps(model, n, randomness, eta):
        z = step[0]
    assert z is not None, "a chain has a step"
    return z


def ddim_steps(
    model: Diffusion, n: int, randomness: Randomness = None, eta: float = 0.0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields (z_{t-1}, the data estimate from z_t) for t = T, ..., 1."""
    if n < 0:
        raise InputError(f"the number of samples must be 0 or more, got {n}")
    if not 0 <= eta <= 1:
        raise InputError(f"eta must lie in [0, 1], got {eta}")
    with torch.no_grad():
        z = model.prior().expand(n).sample(randomness)
        schedule = model.schedule
        for t in range(model.depth, 0, -1):
            x_hat = model.data_estimate(z, t)
            eps_hat = (z - schedule.alpha_bar[t].sqrt().item() * x_hat) / schedule.noise_var[t].sqrt().item()
            fresh_var = eta**2 * schedule.beta_tilde[t].item()
            kept = max(schedule.noise_var[t - 1].item() - fresh_var, 0.0) ** 0.5
            z = schedule.alpha_bar[t - 1].sqrt().item() * x_hat + kept * eps_hat
            if fresh_var > 0:
                z = z + fresh_var**0.5 * randn(z.shape, randomness, z.dtype, z.device)
            yield z, x_hat


SAMPLERS: dict[str, Callable[[Diffusion, int, Randomness], Tensor]] = {"ancestral": ancestral, "ddim": ddim}
# With K steps and a perfect network the law of the samples differs from the data's by order 1 / K^this.
SAMPLER_ORDERS: dict[str, int] = {"ancestral": 1, "ddim": 1}


def sampler(name: str) -> Callable[[Diffusion, int, Randomness], Tensor]:
    """A sampler by its name; InputError names those that exist."""
    if name not in SAMPLERS:
        raise InputError(f"no sampler {name!r}; there are {', '.join(SAMPLERS)}")
    return SAMPLERS[name]
