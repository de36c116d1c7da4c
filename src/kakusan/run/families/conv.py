"""Convolutional VAE and hierarchical VAE for images of any size."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from kakusan.likelihoods import LIKELIHOODS
from kakusan.run.families.base import Units
from kakusan.run.families.conditional import ConditionalConfig, conditioned
from kakusan.run.families.vae import PerceptronFamily
from kakusan.settings import Between, Length, check

if TYPE_CHECKING:
    from torch import Tensor, nn

    LikelihoodName = str
else:
    LikelihoodName = Literal[*LIKELIHOODS]

Channels = Annotated[int, Between(8, 1024)]


@dataclass(frozen=True)
class ConvConfig(ConditionalConfig):
    """Settings shared by the convolutional VAEs."""

    width: Channels = 32
    """Number of channels at half the resolution. Coarser levels have up to four times as many."""
    blocks: Annotated[int, Between(1, 16)] = 1
    """Number of residual blocks of each level."""
    likelihood: LikelihoodName = "discretized"
    """Likelihood of the data. gaussian: unit variance, pixels in [0, 1]. bernoulli: binary pixels. discretized: 8-bit levels."""
    importance_samples: Annotated[int, Between(1, 10_000)] = 1
    """Number of samples K of the importance-weighted training bound. 1: the ELBO with its KL in closed form."""

    def __post_init__(self):
        check(self, "model")


@dataclass(frozen=True)
class ConvVAEConfig(ConvConfig):
    """Settings of a convolutional VAE."""

    family = "conv-vae"

    latent: Units = 64
    """Number of latent dimensions."""


@dataclass(frozen=True)
class ConvHierarchyConfig(ConvConfig):
    """Settings of a convolutional hierarchical VAE."""

    family = "conv-hierarchy"

    maps: Annotated[int, Between(1, 256)] = 4
    """Number of channels of z_1, whose resolution is that of the coarsest level."""
    latents: Annotated[tuple[Units, ...], Length(1, 15)] = (64,)
    """Dimensions of z_2, z_3, ..."""
    upper_hidden: Units = 256
    """Width of the hidden layers above z_1."""


class ConvFamily(PerceptronFamily):
    """Base of the convolutional VAE families, whose encoder and decoder of images are convolutional."""

    def prepare(self, module: Any, data: Tensor, augment: str) -> None:
        """Do nothing: the decoder learns the mean image by itself."""


class ConvVAEFamily(ConvFamily):
    """Family of convolutional VAEs."""

    name = "conv-vae"
    config = ConvVAEConfig

    def build(self, config: ConvVAEConfig, event_shape: tuple[int, ...]) -> nn.Module:
        """Build a VAE with a vector of latents."""
        from kakusan.models.vae import VAE

        shape = (config.latent,)
        encoder, decoder = networks(config, event_shape, shape)
        return conditioned(VAE(encoder, decoder, shape, config.likelihood, event_shape), config, event_shape)


class ConvHierarchyFamily(ConvFamily):
    """Family of convolutional hierarchical VAEs: z_1 is a feature map, and perceptrons with learned variances lie above."""

    name = "conv-hierarchy"
    config = ConvHierarchyConfig

    def build(self, config: ConvHierarchyConfig, event_shape: tuple[int, ...]) -> nn.Module:
        """Build a hierarchical VAE with two or more levels."""
        from kakusan.models.hierarchical_vae import HierarchicalVAE
        from kakusan.nets.conv import sizes
        from kakusan.nets.mlp import GaussianMLP

        shapes = [(config.maps, *sizes(*event_shape[1:])[-1]), *((size,) for size in config.latents)]
        pairs, hidden, num = list(itertools.pairwise(shapes)), (config.upper_hidden,), config.num_conditions
        encoder, decoder = networks(config, event_shape, shapes[0])
        encoders = [encoder, *(GaussianMLP(low, hidden, high, "silu", num_classes=num) for low, high in pairs)]
        decoders = [decoder, *(GaussianMLP(high, hidden, low, "silu", num_classes=num) for low, high in pairs)]
        chain = HierarchicalVAE(encoders, decoders, shapes, config.likelihood, event_shape)
        return conditioned(chain, config, event_shape)

    def lowest_decoder(self, module: Any) -> Any:
        """Return the network of p(x | z_1)."""
        return module.decoders[0]


def networks(
    config: ConvConfig, event_shape: tuple[int, ...], latent_shape: tuple[int, ...]
) -> tuple[nn.Module, nn.Module]:
    """Build encoder and decoder between images and the lowest latents, with the head that the likelihood needs."""
    from kakusan.likelihoods import as_likelihood
    from kakusan.nets.conv import ConvDecoder, ConvEncoder

    likelihood = as_likelihood(config.likelihood)
    own = {"width": config.width, "blocks": config.blocks, "num_classes": config.num_conditions}
    decoder = ConvDecoder(
        latent_shape, event_shape, **own, has_log_var=likelihood.has_log_var, sigmoid=likelihood.squashed
    )
    return ConvEncoder(event_shape, latent_shape, **own), decoder
