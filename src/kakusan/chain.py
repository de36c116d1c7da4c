"""The interface of every model: data x = z_0 and latents z_1, ..., z_T, a Markov chain in both directions.

    p(x, z_1..z_T | c) = p(z_T | c) prod_t p(z_{t-1} | z_t, c)      generative chain      (S9, S46)
    q(z_1..z_T | x, c) = prod_t q(z_t | z_{t-1}, c)                 inference chain

A Dirichlet-multinomial model and a VAE have depth 1, a hierarchical VAE depth L, a diffusion model depth T.
"""

from __future__ import annotations

import abc
import math
from typing import Any

from torch import Tensor

from kakusan.checks import check_cond, check_event, check_finite
from kakusan.distributions import Distribution, add
from kakusan.errors import InputError
from kakusan.noise import Randomness

Latent = Any  # a tensor (b, *shape); a pair (tensor, class) for a `Mixture`


class LatentChain(abc.ABC):
    """Latents z_1, ..., z_T over data z_0 = x, Markov in both directions.

    Law: if decode is the exact reverse of encode, `log_weight` equals log p(x | cond) on every path.

    A chain has three methods of its own: `prior`, `decode` and `encode`. Everything else has a default.
    `cond` is None for an unconditional chain, int64 (b,) for class indices, or a float tensor (b, ...) of features.
    """

    depth: int  # T >= 1

    @abc.abstractmethod
    def prior(self, cond: Tensor | None = None) -> Distribution:
        """p(z_T | cond), with a batch of one or of len(cond)."""

    @abc.abstractmethod
    def decode(self, z: Latent, t: int, cond: Tensor | None = None) -> Distribution:
        """p(z_{t-1} | z_t = z, cond) for t in 1..T; t = 1 is the likelihood of x."""

    @abc.abstractmethod
    def encode(self, z: Latent, t: int, cond: Tensor | None = None) -> Distribution:
        """q(z_t | z_{t-1} = z, cond) for t in 1..T; t = 1 reads x."""

    def validate(self, x: Tensor, cond: Tensor | None = None) -> None:
        """Check that x, shape (b, *event), can be data of this chain. Valid data always have a bound.

        Called where data enter the library. It reads values on the device, so training steps do not call it.

        Raises:
            InputError: If x or cond has the wrong type, shape or values.
        """
        check_event(x)
        check_finite(x)
        check_cond(cond, len(x))

    def terms(self, x: Tensor, cond: Tensor | None = None, generator: Randomness = None) -> dict[str, Tensor]:
        """Terms of the ELBO on one drawn path, by name; nats, each of shape (b,). The mean of their sum is the ELBO.

        Args:
            x: Data, shape (b, *event).
            cond: Condition, or None.
            generator: Source of the path; None is torch's global generator.
        """
        self.validate(x, cond)
        return self.draw_terms(x, cond, generator)

    def draw_terms(self, x: Tensor, cond: Tensor | None = None, generator: Randomness = None) -> dict[str, Tensor]:
        """Return `terms` without validating x, for training steps."""
        path, ups = [x], []
        for t in range(1, self.depth + 1):
            ups.append(self.encode(path[-1], t, cond))
            path.append(ups[-1].sample(generator))
        terms = {"reconstruction": self.decode(path[1], 1, cond).log_prob(x)}
        for t in range(1, self.depth + 1):
            down = self.prior(cond) if t == self.depth else self.decode(path[t + 1], t + 1, cond)
            terms[f"level {t}"] = down.log_prob(path[t]) - ups[t - 1].log_prob(path[t])
        return terms

    def loss(self, x: Tensor, generator: Randomness = None, *, cond: Tensor | None = None) -> Tensor:
        """Training loss: minus the ELBO of one drawn path per dimension of x; nats, shape (b,)."""
        return -add(self.draw_terms(x, cond, generator).values()) / math.prod(x.shape[1:])


def log_weight(chain: LatentChain, path: list[Latent], *, cond: Tensor | None = None) -> Tensor:
    """Log-ratio log p(x, z | cond) - log q(z | x, cond) along a given path [x, z_1, ..., z_T]; nats, shape (b,).

    Pure: no randomness. Its mean over q is the ELBO (S15, S44), the mean of its exponential is p(x) (S45).

    Raises:
        InputError: If the path does not have T + 1 entries, or x cannot be data of this chain.
    """
    if len(path) != chain.depth + 1:
        raise InputError(
            f"a path of a chain of depth {chain.depth} is [x, z_1, ..., z_{chain.depth}], "
            f"{chain.depth + 1} tensors; got {len(path)}"
        )
    chain.validate(path[0], cond)
    rows = [len(z[0] if isinstance(z, tuple) else z) for z in path]
    if len(set(rows)) > 1:
        raise InputError(f"all entries of a path must have the same number of rows, got {', '.join(map(str, rows))}")
    return weigh(chain, path, cond)


def weigh(chain: LatentChain, path: list[Latent], cond: Tensor | None) -> Tensor:
    """The same as `log_weight`, without validating the path."""
    total = chain.prior(cond).log_prob(path[-1])
    for t in range(1, chain.depth + 1):
        total = total + chain.decode(path[t], t, cond).log_prob(path[t - 1])
        total = total - chain.encode(path[t - 1], t, cond).log_prob(path[t])
    return total
