"""The ELBO, the importance-weighted bound and ancestral sampling, for every chain."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kakusan.chain import Latent, LatentChain, weigh
from kakusan.distributions import Distribution, copies, repeat
from kakusan.errors import InputError
from kakusan.noise import Randomness
from kakusan.progress import progress

PATHS_AT_ONCE = 2000  # a larger batch is no faster, and its values no longer fit the CPU caches


def sample_path(
    chain: LatentChain, x: Tensor, generator: Randomness = None, *, cond: Tensor | None = None
) -> list[Latent]:
    """Draw [x, z_1, ..., z_T] with z ~ q(z | x), reparameterized wherever the distributions allow it (S20)."""
    chain.validate(x, cond)
    return draw_path(chain, x, generator, cond=cond)


def draw_path(
    chain: LatentChain, x: Tensor, generator: Randomness = None, *, cond: Tensor | None = None
) -> list[Latent]:
    """Draw a path as `sample_path` does, without validating x."""
    path: list[Latent] = [x]
    for t in range(1, chain.depth + 1):
        path.append(chain.encode(path[-1], t, cond).sample(generator))
    return path


def elbo(chain: LatentChain, x: Tensor, generator: Randomness = None, *, cond: Tensor | None = None) -> Tensor:
    """One-draw, unbiased estimate of ELBO(x) = E_q[log p(x, z) - log q(z | x)] <= log p(x) (S7, S8, S44).

    Args:
        chain: The model.
        x: Data, shape (b, *event).
        generator: Source of the draw; None is torch's global generator.
        cond: Condition of a conditional chain; the result is then the ELBO of p(x | cond).

    Returns:
        Nats per example, higher is better, shape (b,), all constants included.

    Raises:
        InputError: If x cannot be data of this chain (`LatentChain.validate`).
    """
    return weigh(chain, sample_path(chain, x, generator, cond=cond), cond)


def importance_bound(
    chain: LatentChain,
    x: Tensor,
    num_samples: int,
    generator: Randomness = None,
    *,
    cond: Tensor | None = None,
    checked: bool = False,
) -> Tensor:
    """One-draw estimate of E log (1/K) sum_k p(x, z_k) / q(z_k | x), K = num_samples (S45, O29).

    K = 1 is the ELBO. The expectation rises with K towards log p(x). Source: Burda, Grosse and
    Salakhutdinov 2016, https://arxiv.org/abs/1509.00519, equation 8.

    Args:
        chain: The model.
        x: Data, shape (b, *event).
        num_samples: K, at least 1.
        generator: Source of the draws.
        cond: Condition of a conditional chain.
        checked: Skip the validation of x, e.g. in training.

    Returns:
        Nats per example, shape (b,).

    Raises:
        InputError: If num_samples < 1, or x cannot be data of this chain.
    """
    if num_samples < 1:
        raise InputError(f"num_samples must be at least 1, got {num_samples}; 1 is the ELBO itself")
    if not checked:
        chain.validate(x, cond)
    # running log-sum-exp: without gradients, memory does not grow with the number of draws
    at_once = min(num_samples, max(1, PATHS_AT_ONCE // max(1, len(x))))
    first, total = chain.encode(x, 1, cond), None
    for drawn in range(0, num_samples, at_once):
        part = _log_weights(chain, x, first, min(at_once, num_samples - drawn), generator, cond).logsumexp(0)
        total = part if total is None else torch.logaddexp(total, part)
    assert total is not None, "there is at least one draw"
    return total - math.log(num_samples)


def _log_weights(
    chain: LatentChain,
    x: Tensor,
    first: Distribution,
    num_samples: int,
    generator: Randomness,
    cond: Tensor | None,
) -> Tensor:
    """`log_weight` of num_samples paths per example, shape (num_samples, b); all paths form one batch.

    `first` = q(z_1 | x) is shared by all paths of an example, and every other network is evaluated once.
    """
    randomness = (
        generator if generator is None or isinstance(generator, torch.Generator) else [*generator] * num_samples
    )
    below, q = copies(x, num_samples), repeat(first, num_samples)
    cond = None if cond is None else copies(cond, num_samples)
    up, down = [], []
    for t in range(1, chain.depth + 1):
        q = q if t == 1 else chain.encode(below, t, cond)
        z = q.sample(randomness)
        down.append(chain.decode(z, t, cond).log_prob(below))
        up.append(q.log_prob(z))
        below = z
    total = chain.prior(cond).log_prob(below)
    for p, q_of_z in zip(down, up):  # summed in the order of `log_weight`, so that one draw gives the same bits
        total = total + p - q_of_z
    return total.view(num_samples, len(x))


def ancestral_sample(
    chain: LatentChain,
    n: int,
    generator: Randomness = None,
    *,
    cond: Tensor | None = None,
    mean_output: bool = False,
    z: Latent | None = None,
) -> Tensor:
    """Draw n examples x ~ p(x): z_T from the prior, then each step of the generative chain (S6, S31, M13).

    Args:
        chain: The model.
        n: Number of examples, at least 0.
        generator: One generator, or n of them: then example i depends on generator i alone.
        cond: Condition of each example, of length n.
        mean_output: Return the mean of p(x | z_1) instead of a draw from it (S6). The result then lacks the noise of
            the likelihood.
        z: Latents z_T to start from, instead of n draws from the prior.

    Returns:
        Shape (n, *event).
    """
    if n < 0:
        raise InputError(f"the number of samples must be 0 or more, got {n}")
    with torch.no_grad():
        z = chain.prior(cond).expand(n).sample(generator) if z is None else z
        for t in progress(range(chain.depth, 0, -1), "sampling"):
            down = chain.decode(z, t, cond)
            z = down.mean if t == 1 and mean_output else down.sample(generator)
    return z
