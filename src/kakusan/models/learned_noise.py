"""Hierarchical VAE with latents as large as the data and a learned encoder: the first of the two changes alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from kakusan.chain import LatentChain
from kakusan.distributions import Distribution, Normal
from kakusan.models.diffusion import Diffusion
from kakusan.models.networks import as_module, denoiser_output, evaluate

WIDEST = math.log(100)  # largest difference between the log-variances of the encoder and of the fixed noise


class LearnedNoise(nn.Module, LatentChain):
    """Hierarchical VAE whose latents have the shape of the data, with the decoders of a diffusion model (S32).

    q(z_t | z_{t-1}) = N(sqrt(1 - beta_t) z_{t-1} + sqrt(beta_t) m, beta_t exp((2 v - 1) log 100)), where the encoder
    returns m and v in [0, 1] from (z_{t-1}, t). With m = 0 and v = 1/2 it is the fixed noise of the second change (S33),
    and this chain equals `chain`. There is no closed form of z_t given x, so a draw of z_t takes t steps, and a bound
    takes 2 T network evaluations.

    Args:
        chain: Diffusion model whose reverse steps are the decoders.
        encoder: Network from (z_{t-1}, t) to (m, v), each in the shape of z; t is int64 (b,) in 1..T. None for fixed
            noise.
    """

    def __init__(self, chain: Diffusion, encoder: Callable[..., tuple[Tensor, Tensor]] | None = None):
        super().__init__()
        self.chain = chain
        self.encoder = None if encoder is None else as_module(encoder)
        self.depth, self.event_shape, self.likelihood = chain.depth, chain.event_shape, chain.likelihood

    @property
    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of z_1, ..., z_T, all equal to that of the data."""
        return (self.event_shape,) * self.depth

    def prior(self, cond: Tensor | None = None) -> Normal:
        """Return N(0, I)."""
        return self.chain.prior(cond)

    def decode(self, z: Tensor, t: int, cond: Tensor | None = None) -> Distribution:
        """Return p(z_{t-1} | z_t), a reverse step of the diffusion model."""
        return self.chain.decode(z, t, cond)

    def encode(self, z: Tensor, t: int, cond: Tensor | None = None) -> Normal:
        """Return q(z_t | z_{t-1}), the noise of the schedule with the encoder's shift and scale."""
        noise = self.chain.encode(z, t, cond)
        if self.encoder is None:
            return noise
        output = evaluate(self.encoder, z, torch.full((len(z),), t, device=z.device), cond=cond)
        shift, v = denoiser_output(output, z, True)
        assert v is not None, "an encoder returns a pair"
        return Normal.from_log_var(noise.mean + noise.std * shift, noise.log_var + (2 * v - 1) * WIDEST)

    def validate(self, x: Tensor, cond: Tensor | None = None) -> None:
        """Check that x can be data of the diffusion model."""
        self.chain.validate(x, cond)
