"""A diffusion model with only the first of the two changes: latents as large as the data, and a learned encoder."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from kakusan.chain import LatentChain
from kakusan.distributions import Distribution, Normal
from kakusan.models.diffusion import Diffusion
from kakusan.models.networks import as_module, denoiser_output, evaluate

WIDEST = math.log(100)  # most by which an encoder's log-variance leaves that of the fixed noise


class LearnedNoise(nn.Module, LatentChain):
    """Hierarchical VAE whose latents have the shape of the data, with the decoders of a diffusion model (S32).

    q(z_t | z_{t-1}) = N(sqrt(1 - beta_t) z_{t-1} + sqrt(beta_t) m, beta_t exp((2 v - 1) log 100)), where the encoder
    returns m and v in [0, 1] from (z_{t-1}, t). m = 0 and v = 1/2 is the fixed noise of the second change (S33), and
    then this chain equals `chain`. No closed form gives z_t from x: a draw takes t steps, and a bound 2 T evaluations.

    Args:
        chain: Diffusion model, whose reverse steps are the decoders.
        encoder: (z_{t-1}, t) -> (m, v), each of the shape of z; t is int64 (b,) in 1..T. None: the fixed noise.
    """

    def __init__(self, chain: Diffusion, encoder: Callable[..., tuple[Tensor, Tensor]] | None = None):
        super().__init__()
        self.chain = chain
        self.encoder = None if encoder is None else as_module(encoder)
        self.depth, self.event_shape, self.likelihood = chain.depth, chain.event_shape, chain.likelihood

    def prior(self, cond: Tensor | None = None) -> Normal:
        """N(0, I)."""
        return self.chain.prior(cond)

    def decode(self, z: Tensor, t: int, cond: Tensor | None = None) -> Distribution:
        """p(z_{t-1} | z_t), a reverse step of the diffusion model."""
        return self.chain.decode(z, t, cond)

    def encode(self, z: Tensor, t: int, cond: Tensor | None = None) -> Normal:
        """q(z_t | z_{t-1}): the noise of the schedule, moved and scaled by the encoder."""
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
