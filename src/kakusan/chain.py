"""The one idea: data x = z_0 and latents z_1, ..., z_T, a Markov chain in both directions.

    p(x, z) = p(z_T) prod_t p(z_{t-1} | z_t)      generative chain      (S9, S46)
    q(z | x) = prod_t q(z_t | z_{t-1})            inference chain

Dirichlet-multinomial and VAE have depth 1, a hierarchical VAE depth L, a diffusion model depth T.
"""

from __future__ import annotations

import abc

from torch import Tensor

from kakusan.checks import check_event, check_finite
from kakusan.distributions import Distribution
from kakusan.errors import InputError
from kakusan.noise import Randomness


class LatentChain(abc.ABC):
    """Latents z_1, ..., z_T over data z_0 = x, Markov in both directions.

    Law: if decode is the exact reverse of encode, `log_weight` is log p(x) on every path.
    """

    depth: int  # T >= 1

    @abc.abstractmethod
    def prior(self) -> Distribution:
        """p(z_T), with a batch of one."""

    @abc.abstractmethod
    def decode(self, z: Tensor, t: int) -> Distribution:
        """p(z_{t-1} | z_t = z) for t in 1..T; t = 1 is the likelihood of x."""

    @abc.abstractmethod
    def encode(self, z: Tensor, t: int) -> Distribution:
        """q(z_t | z_{t-1} = z) for t in 1..T; t = 1 reads x."""

    def check(self, x: Tensor) -> None:
        """InputError unless x, shape (b, *event), can be data of this chain: data that pass have a bound.

        Called where data come from outside; it looks at the values, which a training step has no time for.
        """
        check_event(x)
        check_finite(x)

    def about(self, x: Tensor) -> tuple[LatentChain, Tensor | float]:
        """The chain to ask about these examples (b, *event), and log p(k) in nats (b,), which belongs to their bound.

        The chain itself and 0, unless a latent k above z_T says which of several chains an example is of.
        """
        return self, 0.0

    def drawn(self, n: int, generator: Randomness = None) -> LatentChain:
        """The chain to draw these n examples by: itself, unless a latent above z_T is drawn first."""
        return self

    def bound_on(self, path: list[Tensor]) -> Tensor:
        """What one path [x, z_1, ..., z_T] ~ q says of the objective; nats, shape (b,).

        It is `log_weight`, whose mean is the ELBO, unless a model was built with another objective by name.
        """
        return log_weight(self, path)


def log_weight(chain: LatentChain, path: list[Tensor]) -> Tensor:
    """log p(x, z) - log q(z | x) along a given path [x, z_1, ..., z_T]; nats, shape (b,).

    Pure: no randomness. Its mean over q is the ELBO (S15, S44), the mean of its exponential is p(x) (S45).
    """
    if len(path) != chain.depth + 1:
        raise InputError(
            f"a path of a chain of depth {chain.depth} is [x, z_1, ..., z_{chain.depth}], "
            f"{chain.depth + 1} tensors; got {len(path)}"
        )
    chain.check(path[0])
    chain, log_share = chain.about(path[0])
    total = chain.prior().log_prob(path[-1]) + log_share
    for t in range(1, chain.depth + 1):
        total = total + chain.decode(path[t], t).log_prob(path[t - 1])
        total = total - chain.encode(path[t - 1], t).log_prob(path[t])
    return total
