"""The hierarchical VAE: L learned latent levels, Markov in both directions (S9-S31)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from kakusan.chain import LatentChain, log_weight
from kakusan.checks import check_event
from kakusan.distributions import Distribution, Normal, add, normal_kl
from kakusan.errors import InputError
from kakusan.likelihoods import Likelihood, Output, check_data, check_likelihood, gaussian, observation
from kakusan.models.vae import as_shape, reference, standard_normal
from kakusan.noise import Randomness

ThirdTerm = Literal["exact", "notes"]


class HierarchicalVAE(nn.Module, LatentChain):
    """L levels: encoder l reads z_{l-1} and gives q(z_l | z_{l-1}), decoder l reads z_l and gives p(z_{l-1} | z_l).

    All lists run from the data upwards: 2 L networks, and no network sees more than one neighbour (S9, S10).

    Args:
        encoders: encoders[l](z_l) -> (mean, log_var) of z_{l+1}, with z_0 = x.
        decoders: decoders[l](z_{l+1}) -> the mean of z_l, with unit variance unless it returns
            (mean, log_var); decoders[0] gives what the likelihood needs (see `observation`).
        latent_shapes: Shapes of z_1, ..., z_L; an int is a vector's length.
        likelihood: Of the data: "gaussian" (the notes'), "bernoulli" or "discretized".
        third_term: "exact" is the ELBO. "notes" is the study notes' form, in which every level below the top
            costs KL(q(z_l | z_{l-1}) || p(z_l | z_{l+1})) as if z_{l+1} had not been drawn from z_l. It is a bound
            too, a looser one (theory E5, S19): at two levels, with I the mutual information of z_1 and z_2
            under q given x,

                ELBO = notes' form + sum_h Cov_q(z_1h, mean_h of p(z_1 | z_2)),
                notes' form = (ELBO of the family q(z_1 | x) q(z_2 | x)) - I  <=  log p(x).
        event_shape: Shape of one example, to tell data of another shape by; None for whatever the networks take.
    """

    def __init__(
        self,
        encoders: Sequence[Callable[[Tensor], tuple[Tensor, Tensor]]],
        decoders: Sequence[Callable[[Tensor], Output]],
        latent_shapes: Sequence[Sequence[int] | int],
        likelihood: Likelihood = "gaussian",
        third_term: ThirdTerm = "exact",
        event_shape: Sequence[int] | int | None = None,
    ):
        super().__init__()
        check_likelihood(likelihood)
        if third_term not in get_args(ThirdTerm):
            raise InputError(f"third_term must be 'exact' or 'notes', got {third_term!r}")
        if not len(encoders) == len(decoders) == len(latent_shapes) >= 1:
            raise InputError(
                "L levels need L encoders, L decoders and L latent shapes, L >= 1; "
                f"got {len(encoders)}, {len(decoders)} and {len(latent_shapes)}"
            )
        self.encoders, self.decoders = _held(encoders), _held(decoders)
        self.latent_shapes = tuple(as_shape(shape) for shape in latent_shapes)
        self.likelihood = likelihood
        self.event_shape = None if event_shape is None else as_shape(event_shape)
        self.third_term = third_term
        self.depth = len(self.latent_shapes)
        self.register_buffer("_zero", torch.zeros(()), persistent=False)

    def prior(self) -> Normal:
        return standard_normal(self.latent_shapes[-1], reference(self))

    def decode(self, z: Tensor, t: int) -> Distribution:
        output = self.decoders[t - 1](z)
        return observation(self.likelihood, output) if t == 1 else gaussian(output)

    def encode(self, z: Tensor, t: int) -> Normal:
        return gaussian(self.encoders[t - 1](z))

    def check(self, x: Tensor) -> None:
        check_data(self.likelihood, x, self.event_shape)

    def bound_on(self, path: list[Tensor]) -> Tensor:
        return log_weight(self, path) if self.third_term == "exact" else add(self.terms_on(path).values())

    def terms_on(self, path: list[Tensor], third_term: ThirdTerm | None = None) -> dict[str, Tensor]:
        """The objective's terms on one path [x, z_1, ..., z_L], in closed form where that is right; nats, each (b,).

        The top level is always -KL(q(z_L | z_{L-1}) || p(z_L)) (S17). A level below it is, in the exact form,
        the entropy of q(z_l | z_{l-1}) plus log p(z_l | z_{l+1}) at the *drawn* z_l (S24: z_{l+1} was drawn from
        it), and in the notes' form a KL as well (S19). third_term is the model's own unless given.
        """
        return self._terms(path, [self.encode(z, t) for t, z in enumerate(path[:-1], start=1)], third_term)

    def terms(self, x: Tensor, generator: Randomness = None, third_term: ThirdTerm | None = None) -> dict[str, Tensor]:
        """Terms of the objective on one drawn path (S20); their sum is the ELBO in mean, or the notes' form of it."""
        check_event(x, self.event_shape)
        path, posteriors = [x], []
        for t in range(1, self.depth + 1):
            posteriors.append(self.encode(path[-1], t))
            path.append(posteriors[-1].sample(generator))
        return self._terms(path, posteriors, third_term)

    def _terms(self, path: list[Tensor], q: list[Normal], third_term: ThirdTerm | None) -> dict[str, Tensor]:
        """As `terms_on`, with q[l - 1] = q(z_l | z_{l-1}) at hand: each network is asked once."""
        terms = {"reconstruction": self.decode(path[1], 1).log_prob(path[0])}
        for level in range(1, self.depth):
            p = gaussian(self.decoders[level](path[level + 1]))
            if (third_term or self.third_term) == "notes":
                terms[f"level {level}"] = -normal_kl(q[level - 1], p)
            else:
                terms[f"level {level}"] = q[level - 1].entropy() + p.log_prob(path[level])
        terms[f"level {self.depth}"] = -normal_kl(q[-1], self.prior())
        return terms


class _Plain(nn.Module):
    """A function without parameters, where a module is expected."""

    def __init__(self, function: Callable):
        super().__init__()
        self.function = function

    def forward(self, z: Tensor) -> Any:
        return self.function(z)


def _held(networks: Sequence[Callable]) -> nn.ModuleList:
    """Registered, so that the parameters of those that have some are the model's."""
    return nn.ModuleList([net if isinstance(net, nn.Module) else _Plain(net) for net in networks])
