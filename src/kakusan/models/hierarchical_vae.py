"""The hierarchical VAE: L learned latent levels, Markov in both directions (S9-S31)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from kakusan.chain import LatentChain
from kakusan.checks import check_cond, check_event
from kakusan.distributions import Distribution, Normal, normal_kl, standard_normal
from kakusan.errors import InputError
from kakusan.likelihoods import as_likelihood
from kakusan.likelihoods.base import Likelihood, Output, gaussian
from kakusan.models.networks import as_module, as_shape, decoder_output, encoder_output, evaluate, reference
from kakusan.noise import Randomness


class HierarchicalVAE(nn.Module, LatentChain):
    """VAE with L levels: encoder l maps z_{l-1} to q(z_l | z_{l-1}), and decoder l maps z_l to p(z_{l-1} | z_l).

    All lists are in the order from the data upward. There are 2 L networks, and each takes one neighboring level alone
    (S9, S10). If `cond` is given, networks receive it as a second argument.

    Args:
        encoders: encoders[l](z_l) -> (mean, log_var) of z_{l+1}, with z_0 = x.
        decoders: decoders[l](z_{l+1}) -> the mean of z_l, with unit variance unless it returns
            (mean, log_var); decoders[0] gives the output that the likelihood needs.
        latent_shapes: Shapes of z_1, ..., z_L; an int is the length of a vector.
        likelihood: "gaussian" (default), "bernoulli", "discretized", or a `Likelihood`.
        event_shape: Shape of one example; None accepts every shape that the networks take.

    Raises:
        InputError: If the three lists differ in length or are empty.
    """

    def __init__(
        self,
        encoders: Sequence[Callable[..., tuple[Tensor, Tensor]]],
        decoders: Sequence[Callable[..., Output]],
        latent_shapes: Sequence[Sequence[int] | int],
        likelihood: str | Likelihood = "gaussian",
        event_shape: Sequence[int] | int | None = None,
    ):
        super().__init__()
        if not len(encoders) == len(decoders) == len(latent_shapes) >= 1:
            raise InputError(
                "L levels need L encoders, L decoders and L latent shapes, L >= 1; "
                f"got {len(encoders)}, {len(decoders)} and {len(latent_shapes)}"
            )
        self.encoders = nn.ModuleList(map(as_module, encoders))
        self.decoders = nn.ModuleList(map(as_module, decoders))
        self.latent_shapes = tuple(as_shape(shape) for shape in latent_shapes)
        self.likelihood = as_likelihood(likelihood)
        self.event_shape = None if event_shape is None else as_shape(event_shape)
        self.depth = len(self.latent_shapes)
        self.register_buffer("_zero", torch.zeros(()), persistent=False)

    def prior(self, cond: Tensor | None = None) -> Normal:
        """Return N(0, I), the prior of z_L."""
        return standard_normal(self.latent_shapes[-1], reference(self))

    def decode(self, z: Tensor, t: int, cond: Tensor | None = None) -> Distribution:
        """Return p(x | z_1) for t = 1, and the Gaussian p(z_{t-1} | z_t) for t > 1."""
        output = evaluate(self.decoders[t - 1], z, cond=cond)
        shape = self.event_shape if t == 1 else self.latent_shapes[t - 2]
        output = decoder_output(output, shape, len(z))
        return self.likelihood.distribution(output) if t == 1 else gaussian(output)

    def encode(self, z: Tensor, t: int, cond: Tensor | None = None) -> Normal:
        """Return q(z_t | z_{t-1})."""
        output = evaluate(self.encoders[t - 1], z, cond=cond)
        return gaussian(encoder_output(output, self.latent_shapes[t - 1], len(z)))

    def validate(self, x: Tensor, cond: Tensor | None = None) -> None:
        """Check that x can be data of the likelihood and has the model's shape."""
        self.likelihood.validate(x, self.event_shape)
        check_cond(cond, len(x))

    def draw_terms(self, x: Tensor, cond: Tensor | None = None, generator: Randomness = None) -> dict[str, Tensor]:
        """Terms of the ELBO in nats, each (b,), on one drawn path (S20); see `terms_on`."""
        check_event(x, self.event_shape)
        path, posteriors = self.draw(x, cond, generator)
        return self._terms(path, posteriors, cond)

    def terms_on(self, path: list[Tensor], cond: Tensor | None = None) -> dict[str, Tensor]:
        """Terms of the ELBO in nats, each (b,), on a given path [x, z_1, ..., z_L].

        The term of the top level is -KL(q(z_L | z_{L-1}) || p(z_L)) (S17). The term of a lower level is the entropy of
        q(z_l | z_{l-1}) plus log p(z_l | z_{l+1}) at the drawn z_l (S24), because z_{l+1} depends on that z_l.

        With two levels these are the terms of the study notes (S15): "reconstruction" is J1 (S16), "level 2" is J2
        (S17), and "level 1" is the corrected J3 (S18). The notes' own J3 is in `objectives.notes_third_term`.
        """
        return self._terms(path, [self.encode(z, t, cond) for t, z in enumerate(path[:-1], start=1)], cond)

    def draw(
        self, x: Tensor, cond: Tensor | None = None, generator: Randomness = None
    ) -> tuple[list[Tensor], list[Normal]]:
        """Draw a path [x, z_1, ..., z_L] from q; return it with the distributions q(z_l | z_{l-1})."""
        path, posteriors = [x], []
        for t in range(1, self.depth + 1):
            posteriors.append(self.encode(path[-1], t, cond))
            path.append(posteriors[-1].sample(generator))
        return path, posteriors

    def _terms(self, path: list[Tensor], q: list[Normal], cond: Tensor | None) -> dict[str, Tensor]:
        terms = {"reconstruction": self.decode(path[1], 1, cond).log_prob(path[0])}
        for level in range(1, self.depth):
            p = self.decode(path[level + 1], level + 1, cond)
            terms[f"level {level}"] = q[level - 1].entropy() + p.log_prob(path[level])
        terms[f"level {self.depth}"] = -normal_kl(q[-1], self.prior(cond))
        return terms
