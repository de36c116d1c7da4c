"""The bound, its tightening by importance weights, and generation: written once, for every chain."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kakusan.chain import LatentChain
from kakusan.distributions import Distribution, copies, repeat
from kakusan.errors import InputError
from kakusan.noise import Randomness

ROWS = 2000  # paths at a time: more do not run faster, and their pixels would leave the caches


def sample_path(chain: LatentChain, x: Tensor, generator: Randomness = None) -> list[Tensor]:
    """[x, z_1, ..., z_T] with z ~ q(z | x), by reparameterisation wherever the distributions allow it (S20)."""
    chain.check(x)
    return drawn_path(chain, x, generator)


def drawn_path(chain: LatentChain, x: Tensor, generator: Randomness = None) -> list[Tensor]:
    """As `sample_path`, of data that are known to be right: in training."""
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

    Raises:
        InputError: If x cannot be data of this chain (`LatentChain.check`).
    """
    return chain.bound_on(sample_path(chain, x, generator))


def importance_bound(
    chain: LatentChain, x: Tensor, num_samples: int, generator: Randomness = None, *, checked: bool = False
) -> Tensor:
    """One-draw estimate of E log (1/K) sum_k p(x, z_k) / q(z_k | x), K = num_samples (S45, O29).

    K = 1 is the ELBO; the expectation rises with K towards log p(x). Source: Burda, Grosse and
    Salakhutdinov 2016, equation 8.

    Args:
        chain: The model.
        x: Data, shape (b, *event).
        num_samples: K.
        generator: Source of the draws.
        checked: The data are known to be right and need no look at their values: in training.

    Returns:
        Nats per example, shape (b,).

    Raises:
        InputError: If num_samples < 1, or x cannot be data of this chain.
    """
    if num_samples < 1:
        raise InputError(f"num_samples must be at least 1, got {num_samples}; 1 is the ELBO itself")
    if not checked:
        chain.check(x)
    # log-sum-exp in a running form: without gradients, memory does not grow with the number of draws
    at_once = min(num_samples, max(1, ROWS // max(1, len(x))))
    first, total = chain.encode(x, 1), None
    for drawn in range(0, num_samples, at_once):
        part = _log_weights(chain, x, first, min(at_once, num_samples - drawn), generator).logsumexp(0)
        total = part if total is None else torch.logaddexp(total, part)
    assert total is not None, "there is at least one draw"
    return total - math.log(num_samples)


def _log_weights(chain: LatentChain, x: Tensor, first: Distribution, num_samples: int, generator: Randomness) -> Tensor:
    """log_weight of num_samples paths for each example, shape (num_samples, b); all paths are one batch.

    It differs from `log_weight` of a `sample_path` in cost alone: `first` = q(z_1 | x), which all paths of an
    example share, is given, and every other network is asked once.
    """
    randomness = (
        generator if generator is None or isinstance(generator, torch.Generator) else [*generator] * num_samples
    )
    below, q = copies(x, num_samples), repeat(first, num_samples)
    chain, log_share = chain.about(below)
    up, down = [], []
    for t in range(1, chain.depth + 1):
        q = q if t == 1 else chain.encode(below, t)
        z = q.sample(randomness)
        down.append(chain.decode(z, t).log_prob(below))
        up.append(q.log_prob(z))
        below = z
    total = chain.prior().log_prob(below) + log_share
    for p, q_of_z in zip(down, up):  # in the order of `log_weight`, so that one draw gives the same bits
        total = total + p - q_of_z
    return total.view(num_samples, len(x))


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
        chain = chain.drawn(n, generator)
        z = chain.prior().expand(n).sample(generator)
        for t in range(chain.depth, 0, -1):
            down = chain.decode(z, t)
            z = down.mean if t == 1 and mean_output else down.sample(generator)
    return z
