"""The bound, its tightening by importance weights, and generation: written once, for every chain."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kakusan.chain import LatentChain, log_weight
from kakusan.errors import InputError
from kakusan.noise import Randomness


def sample_path(chain: LatentChain, x: Tensor, generator: Randomness = None) -> list[Tensor]:
    """[x, z_1, ..., z_T] with z ~ q(z | x), by reparameterisation wherever the distributions allow it (S20)."""
    path = [x]
    for t in range(1, chain.depth + 1):
        path.append(chain.encode(path[-1], t).sample(generator))
    return path


def elbo(chain: LatentChain, x: Tensor, generator: Randomness = None) -> Tensor:
    """One-draw, unbiased estimate of ELBO(x) = E_q[log p(x, z) - log q(z | x)] <= log p(x) (S7, S8, S44).

    For a `HierarchicalVAE` built with third_term="notes" it is the study notes' form instead, as asked by name.

    Args:
        chain: The model.
        x: Data, shape (b, *event).
        generator: Source of the draw; None is torch's global one.

    Returns:
        Nats per example, higher is better, shape (b,), all constants included.
    """
    return chain.bound_on(sample_path(chain, x, generator))


def importance_bound(chain: LatentChain, x: Tensor, num_samples: int, generator: Randomness = None) -> Tensor:
    """One-draw estimate of E log (1/K) sum_k p(x, z_k) / q(z_k | x), K = num_samples (S45, O29).

    K = 1 is the ELBO; the expectation rises with K towards log p(x). Source: Burda, Grosse and
    Salakhutdinov 2016, equation 8.

    Returns:
        Nats per example, shape (b,).

    Raises:
        InputError: If num_samples < 1.
    """
    if num_samples < 1:
        raise InputError(f"num_samples must be at least 1, got {num_samples}; 1 is the ELBO itself")
    # log-sum-exp in a running form: memory does not grow with the number of draws
    total = log_weight(chain, sample_path(chain, x, generator))
    for _ in range(num_samples - 1):
        total = torch.logaddexp(total, log_weight(chain, sample_path(chain, x, generator)))
    return total - math.log(num_samples)


def ancestral_sample(chain: LatentChain, n: int, generator: Randomness = None, *, mean_output: bool = False) -> Tensor:
    """n draws x ~ p(x): z_T from the prior, then down the generative chain (S6, S31, M13).

    Args:
        chain: The model.
        n: How many, at least 0.
        generator: One generator, or n of them: then sample i depends on generator i alone.
        mean_output: Return the mean of p(x | z_1) in place of a draw from it. The notes' digits are such
            means (S6); the law of the result then lacks the last noise.

    Returns:
        Shape (n, *event).
    """
    if n < 0:
        raise InputError(f"the number of samples must be 0 or more, got {n}")
    with torch.no_grad():
        z = chain.prior().expand(n).sample(generator)
        for t in range(chain.depth, 0, -1):
            down = chain.decode(z, t)
            z = down.mean if t == 1 and mean_output else down.sample(generator)
    return z
