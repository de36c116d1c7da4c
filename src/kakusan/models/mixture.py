"""A mixture of chains: one discrete latent k above z_T, p(x) = sum_k p(k) p(x | k).

The latents of the mixture are pairs (z_t, k). The prior draws k and then z_T, the encoder draws k from q(k | x) and
then z_1, and all other steps keep k. So a mixture is a `LatentChain`, and its ELBO is

    ELBO(x) = E_q(k|x)[ log p(k) - log q(k | x) + ELBO(x | k) ].

The class is certain if it is a function of x, as for k-means clusters, or a known label. Otherwise q(k | x) is the
responsibility softmax_k(log p(k) + ELBO(x | k)), computed from the bounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kakusan.chain import LatentChain
from kakusan.checks import check_event
from kakusan.devices import precise
from kakusan.distributions import Distribution, add, copies
from kakusan.errors import InputError
from kakusan.models.clusters import UNLABELED, Classes, draw_classes, where_unlabeled
from kakusan.noise import Randomness, stream

ROWS_AT_ONCE = 1000  # examples of all classes in one batch of responsibilities


class WithClass(NamedTuple):
    """A latent of a mixture: z_t (b, *shape) and the class k, int64 (b,), of each example."""

    z: Tensor
    k: Tensor


@dataclass(frozen=True)
class KnownClass:
    """Distribution of (z, k) with a known k."""

    latent: Distribution
    k: Tensor  # (b,)

    @property
    def mean(self) -> Tensor:
        """Mean of z."""
        return self.latent.mean

    def sample(self, randomness: Randomness = None) -> WithClass:
        """Draw z, and return it with the known k."""
        return WithClass(self.latent.sample(randomness), self.k)

    def log_prob(self, value: WithClass) -> Tensor:
        """log p(z) in nats, (b,); -inf where k is not the known class."""
        log_prob = self.latent.log_prob(value.z)
        return log_prob.masked_fill(value.k != self.k, -math.inf)

    def expand(self, num_examples: int) -> KnownClass:
        """Return the distribution repeated for `num_examples` examples."""
        return KnownClass(self.latent.expand(num_examples), self.k.expand(num_examples))


@dataclass(frozen=True)
class ClassFirst:
    """Distribution of (z, k) in which k has given probabilities, and z is distributed given k.

    It is the prior of a mixture (if x is None), or its encoder for examples x whose class is uncertain.
    """

    chain: LatentChain
    probs: Tensor  # (b, K), float64; b may be 1
    x: Tensor | None = None

    def _given(self, k: Tensor) -> Distribution:
        law = self.chain.prior(k) if self.x is None else self.chain.encode(self.x, 1, k.to(self.x.device))
        return law.expand(len(k))

    @property
    def mean(self) -> Tensor:
        """Mean of z given the likeliest class."""
        return self._given(self.probs.argmax(1)).mean

    def sample(self, randomness: Randomness = None) -> WithClass:
        """Draw k, and then z given k."""
        k = draw_classes(self.probs, randomness)
        z = self._given(k).sample(randomness)
        return WithClass(z, k.to(z.device))

    def log_prob(self, value: WithClass) -> Tensor:
        """log p(k) + log p(z | k) in nats, (b,)."""
        log_prob = self._given(value.k).log_prob(value.z)
        rows = self.probs.log().expand(len(value.k), -1)
        return log_prob + rows.gather(1, value.k.to(rows.device)[:, None])[:, 0].to(log_prob)

    def expand(self, num_examples: int) -> ClassFirst:
        """Return the distribution repeated for `num_examples` examples."""
        x = None if self.x is None else self.x.expand(num_examples, *self.x.shape[1:])
        return ClassFirst(self.chain, self.probs.expand(num_examples, -1), x)


class Mixture(nn.Module, LatentChain):
    """Mixture over classes k of one conditional chain, whose networks all classes share.

    If `cond` is given, it is the class of each example, and every method refers to p(x | k).

    Args:
        chain: A chain whose methods take cond = k, int64 (b,).
        classes: `Clusters`, `Classes`, or the number K of classes.
        probs: p(k), if `classes` is a number; default: uniform.
        assign: Function from x to k, if `classes` is a number; default: responsibilities from K bounds.
    """

    def __init__(
        self,
        chain: LatentChain,
        classes: Classes | int,
        probs: Tensor | Sequence[float] | None = None,
        assign: Callable[[Tensor], Tensor] | None = None,
    ):
        super().__init__()
        if isinstance(classes, bool) or not isinstance(classes, Classes | int) or classes == 0:
            raise InputError(f"classes must be Clusters, Classes or a positive number of classes, got {classes!r}")
        if isinstance(classes, int):
            classes = Classes([1 / classes] * classes if probs is None else probs, assign)
        # The tuple keeps the chain from being registered. _link registers its parts under the names they have without classes.
        self._chain = (chain,)
        self.clusters = classes  # the name in model files
        self.depth = chain.depth
        self._link()

    def _link(self) -> None:
        """Register the chain's parts in the mixture, so that weights have the same names with and without classes."""
        for mine, held in ((self._modules, "_modules"), (self._parameters, "_parameters"), (self._buffers, "_buffers")):
            mine.update(getattr(self.chain, held, {}))
        self._non_persistent_buffers_set |= getattr(self.chain, "_non_persistent_buffers_set", set())

    def _apply(self, fn: Callable, recurse: bool = True) -> Mixture:
        """Move or convert the chain and the classes, each once."""
        self.clusters._apply(fn, recurse)
        if isinstance(self.chain, nn.Module):
            self.chain._apply(fn, recurse)
        self._link()
        return self

    def train(self, mode: bool = True) -> Mixture:
        """Set the mode of the chain as well."""
        if isinstance(self.chain, nn.Module):
            self.chain.train(mode)
        return super().train(mode)

    @property
    def chain(self) -> Any:
        """The conditional chain p(x | k)."""
        return self._chain[0]

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return self.chain.event_shape

    @property
    def num_dims(self) -> int:
        """Number of scalars in one example."""
        return math.prod(self.event_shape)

    @property
    def classes(self) -> Classes:
        """Classes of the mixture, which hold p(k) and q(k | x)."""
        return self.clusters

    def prior(self, cond: Tensor | None = None) -> Distribution:
        """Return p(z_T, k) = p(k) p(z_T | k)."""
        if cond is not None:
            return KnownClass(self.chain.prior(cond).expand(len(cond)), self._known(cond))
        return ClassFirst(self.chain, self.classes.share.double()[None])

    def decode(self, z: WithClass, t: int, cond: Tensor | None = None) -> Distribution:
        """Return p(z_{t-1}, k | z_t, k); for t = 1, p(x | z_1, k)."""
        down = self.chain.decode(z.z, t, z.k)
        return down if t == 1 else KnownClass(down, z.k)

    def encode(self, z: Any, t: int, cond: Tensor | None = None) -> Distribution:
        """Return q(z_t, k | z_{t-1}, k); for t = 1, q(k | x) q(z_1 | x, k)."""
        if t > 1:
            return KnownClass(self.chain.encode(z.z, t, z.k), z.k)
        k = self._known(cond) if cond is not None else self.classes.of(z)
        if k is None:
            return ClassFirst(self.chain, self.responsibilities(z).exp(), z)
        return KnownClass(self.chain.encode(z, 1, k), k)

    def validate(self, x: Tensor, cond: Tensor | None = None) -> None:
        """Check the data, and class indices if given; -1 for unlabeled is allowed if the classes allow it in training."""
        self.chain.validate(x, cond)
        if cond is not None:
            self._known(cond.clamp(min=0) if self.classes.holes and (cond >= UNLABELED).all() else cond)

    @torch.no_grad()
    def responsibilities(self, x: Tensor, seed: int = 0) -> Tensor:
        """log q(k | x) from one-draw bounds for all classes, float64 (b, K), a function of x and the seed."""
        check_event(x)
        return (precise(self._bounds(x, seed)) + self.classes.share.log()).log_softmax(1)

    def draw_terms(self, x: Tensor, cond: Tensor | None = None, generator: Randomness = None) -> dict[str, Tensor]:
        """Terms of the ELBO in nats, each (b,), summed over an uncertain class; "cluster" is log p(k) - log q(k | x)."""
        if cond is not None:
            return self.chain.draw_terms(x, self._known(cond), generator)
        k = self.classes.of(x)
        if k is not None:
            return {"cluster": self.classes.log_prob(k).to(x)} | self.chain.draw_terms(x, k, generator)
        log_q = self.responsibilities(x)
        q = log_q.exp().to(x)
        each = [self.chain.draw_terms(x, self._all(k, x), generator) for k in range(self.classes.num)]
        return {"cluster": log_prior(q, self.classes.share.to(x))} | {
            name: add(q[:, k] * part[name] for k, part in enumerate(each)) for name in each[0]
        }

    def loss(self, x: Tensor, generator: Randomness = None, *, cond: Tensor | None = None, **settings: Any) -> Tensor:
        """The chain's loss given the class of each example, shape (b,); minus the ELBO for uncertain classes.

        The class -1 in cond means unlabeled. If the chain's loss is minus its ELBO, the loss of such an example is a sum
        over all classes with q(k | x). Other losses use one class drawn from q(k | x), an unbiased estimate of that sum.
        """
        check_event(x)
        k = cond if cond is not None else self.classes.of(x)
        if k is not None and self.classes.holes and type(self.chain).loss is LatentChain.loss:
            return self._summed_loss(x, k, generator)
        if k is not None:
            k = self.classes.for_training(self.classes.completed(x, k, generator), generator)
            return self.chain.loss(x, generator, cond=k, **settings)
        if settings:
            raise InputError(
                f"with uncertain classes the loss is minus the ELBO, got {', '.join(settings)}; pass cond=, or omit it"
            )
        return LatentChain.loss(self, x, generator)

    def _summed_loss(self, x: Tensor, k: Tensor, generator: Randomness) -> Tensor:
        """Minus ELBO(x | k) of labeled and minus ELBO(x) of unlabeled examples per dimension, from one batch of pairs."""
        probs = self.classes.probs_of(x)
        q = where_unlabeled(k, self.responsibilities(x).exp() if probs is None else probs)
        rows, classes = (index.to(x.device) for index in q.nonzero(as_tuple=True))
        bound = add(self.chain.draw_terms(x[rows], classes, generator).values())
        weighted = q[q > 0].to(bound) * bound
        known = log_prior(q, self.classes.share).masked_fill(k.to(q.device) != UNLABELED, 0.0).to(bound)
        return -(known.index_add(0, rows, weighted)) / math.prod(x.shape[1:])

    def _bounds(self, x: Tensor, seed: int) -> Tensor:
        """One-draw bounds for all classes in nats, (b, K), with several classes in one batch."""
        found = []
        for classes in torch.arange(self.classes.num, device=x.device).split(max(1, ROWS_AT_ONCE // max(1, len(x)))):
            k = classes.repeat_interleave(len(x))
            # equal noise for all examples, so that q(k | x) depends on x alone
            noise = [stream(seed, "responsibilities", device=x.device) for _ in k]
            bound = add(self.chain.draw_terms(copies(x, len(classes)), k, noise).values())
            found.append(bound.view(len(classes), len(x)))
        return torch.cat(found).T

    def _all(self, k: int, x: Tensor) -> Tensor:
        return torch.full((len(x),), k, device=x.device)

    def _known(self, cond: Tensor) -> Tensor:
        self.classes.validate(cond)
        return cond


def log_prior(q: Tensor, share: Tensor) -> Tensor:
    """Compute sum_k q(k | x) (log p(k) - log q(k | x)) in nats, (b,), for rows q (b, K) and p(k) (K,)."""
    return torch.special.entr(q).sum(1) + torch.xlogy(q, share).sum(1)


def split(model: Any) -> tuple[Any, Classes | None]:
    """Return the conditional chain and the classes of a mixture, or any other model and None."""
    return (model.chain, model.classes) if isinstance(model, Mixture) else (model, None)
