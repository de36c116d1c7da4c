"""The variational autoencoder: one learned latent level (S3-S8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from kakusan.chain import LatentChain
from kakusan.checks import check_cond, check_event
from kakusan.distributions import Distribution, Normal, normal_kl, standard_normal
from kakusan.likelihoods import as_likelihood
from kakusan.likelihoods.base import Likelihood, Output, gaussian
from kakusan.models.networks import as_module, as_shape, decoder_output, encoder_output, evaluate, reference
from kakusan.noise import Randomness


class VAE(nn.Module, LatentChain):
    """VAE with p(z) = N(0, I), a decoder for p(x | z) and an encoder for q(z | x) = N(mean, diag(exp(log_var))).

    If `cond` is given, both networks receive it as a second argument.

    Args:
        encoder: Network from x to (mean, log_var), each (b, *latent_shape).
        decoder: Network from z to the output that the likelihood needs: (mean, log_var), or the mean for unit
            variance; for "bernoulli" the log-odds.
        latent_shape: Shape of z without the batch, e.g. (20,); an int is the length of a vector.
        likelihood: "gaussian" (default), "bernoulli", "discretized", or a `Likelihood`.
        event_shape: Shape of one example; None accepts every shape that the networks take.

    Source: Kingma and Welling 2014, https://arxiv.org/abs/1312.6114; theory S3-S8.
    """

    depth = 1

    def __init__(
        self,
        encoder: Callable[..., tuple[Tensor, Tensor]],
        decoder: Callable[..., Output],
        latent_shape: Sequence[int] | int,
        likelihood: str | Likelihood = "gaussian",
        event_shape: Sequence[int] | int | None = None,
    ):
        super().__init__()
        self.encoder, self.decoder = as_module(encoder), as_module(decoder)
        self.latent_shape = as_shape(latent_shape)
        self.likelihood = as_likelihood(likelihood)
        self.event_shape = None if event_shape is None else as_shape(event_shape)
        self.register_buffer("_zero", torch.zeros(()), persistent=False)

    def prior(self, cond: Tensor | None = None) -> Normal:
        """Return N(0, I)."""
        return standard_normal(self.latent_shape, reference(self))

    def decode(self, z: Tensor, t: int, cond: Tensor | None = None) -> Distribution:
        """Return p(x | z)."""
        output = evaluate(self.decoder, z, cond=cond)
        return self.likelihood.distribution(decoder_output(output, self.event_shape, len(z)))

    def encode(self, z: Tensor, t: int, cond: Tensor | None = None) -> Normal:
        """Return q(z | x)."""
        output = evaluate(self.encoder, z, cond=cond)
        return gaussian(encoder_output(output, self.latent_shape, len(z)))

    def validate(self, x: Tensor, cond: Tensor | None = None) -> None:
        """Check that x can be data of the likelihood and has the model's shape."""
        self.likelihood.validate(x, self.event_shape)
        check_cond(cond, len(x))

    def draw_terms(self, x: Tensor, cond: Tensor | None = None, generator: Randomness = None) -> dict[str, Tensor]:
        """Terms in nats, each (b,), whose sum is an unbiased one-draw ELBO estimate with the KL in closed form (S7)."""
        check_event(x, self.event_shape)
        q = self.encode(x, 1, cond)
        reconstruction = self.decode(q.sample(generator), 1, cond).log_prob(x)
        return {"reconstruction": reconstruction, "level 1": -normal_kl(q, self.prior(cond))}
