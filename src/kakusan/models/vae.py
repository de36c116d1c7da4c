"""The variational autoencoder: one learned latent level (S3-S8)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from kakusan.chain import LatentChain
from kakusan.checks import check_event
from kakusan.distributions import Distribution, Normal, normal_kl
from kakusan.errors import InputError
from kakusan.likelihoods import Likelihood, Output, check_data, check_likelihood, gaussian, observation
from kakusan.noise import Randomness


class VAE(nn.Module, LatentChain):
    """p(z) = N(0, I), p(x | z) by a decoder, q(z | x) = N(mean, diag(exp(log_var))) by an encoder.

    Args:
        encoder: x -> (mean, log_var), each (b, *latent_shape).
        decoder: z -> what the likelihood needs (see `observation`): the mean, with unit variance unless it
            returns (mean, log_var); for "bernoulli" the log-odds.
        latent_shape: Shape of z without the batch, e.g. (20,); an int is one dimension.
        likelihood: "gaussian" (the notes'), "bernoulli" or "discretized".
        event_shape: Shape of one example, to tell data of another shape by; None for whatever the networks take.

    Source: Kingma and Welling 2014; theory S3-S8.
    """

    depth = 1

    def __init__(
        self,
        encoder: Callable[[Tensor], tuple[Tensor, Tensor]],
        decoder: Callable[[Tensor], Output],
        latent_shape: Sequence[int] | int,
        likelihood: Likelihood = "gaussian",
        event_shape: Sequence[int] | int | None = None,
    ):
        super().__init__()
        check_likelihood(likelihood)
        self.encoder, self.decoder = encoder, decoder
        self.latent_shape = as_shape(latent_shape)
        self.likelihood = likelihood
        self.event_shape = None if event_shape is None else as_shape(event_shape)
        self.register_buffer("_zero", torch.zeros(()), persistent=False)

    def prior(self) -> Normal:
        return standard_normal(self.latent_shape, reference(self))

    def decode(self, z: Tensor, t: int) -> Distribution:
        return observation(self.likelihood, self.decoder(z))

    def encode(self, z: Tensor, t: int) -> Normal:
        return gaussian(self.encoder(z))

    def check(self, x: Tensor) -> None:
        check_data(self.likelihood, x, self.event_shape)

    def terms(self, x: Tensor, generator: Randomness = None) -> dict[str, Tensor]:
        """Terms whose sum is an unbiased one-draw ELBO with the KL in closed form (S7); nats, each (b,)."""
        check_event(x, self.event_shape)
        q = self.encode(x, 1)
        reconstruction = self.decode(q.sample(generator), 1).log_prob(x)
        return {"reconstruction": reconstruction, "level 1": -normal_kl(q, self.prior())}


def as_shape(shape: Sequence[int] | int) -> tuple[int, ...]:
    """An int is a vector's length."""
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    if not sizes or any(size < 1 for size in sizes):
        raise InputError(f"a shape needs positive sizes, got {shape}; e.g. (20,)")
    return sizes


def standard_normal(shape: tuple[int, ...], like: Tensor) -> Normal:
    """N(0, I) with a batch of one, in the dtype and on the device of `like`; no parameters (S3)."""
    zeros = torch.zeros((1, *shape), dtype=like.dtype, device=like.device)
    return Normal(zeros, torch.ones_like(zeros), zeros)


def reference(module: nn.Module) -> Tensor:
    """A tensor that shows a module's dtype and device: its first parameter, else its first buffer."""
    for tensor in itertools.chain(module.parameters(), module.buffers()):  # a walk of the whole tree is slow
        if tensor.is_floating_point():
            return tensor
    raise AssertionError("every chain of ours has a buffer")
