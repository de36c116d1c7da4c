"""The VAE family: multi-layer perceptrons between an image and one latent level."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from kakusan.errors import InputError
from kakusan.likelihoods import LIKELIHOODS
from kakusan.run.families.base import Family, TrainingLoss, Units
from kakusan.run.families.conditional import ConditionalConfig, conditioned
from kakusan.settings import Between, Length, check

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kakusan.run.trained_model import TrainedModel

    LikelihoodName = str
else:
    LikelihoodName = Literal[*LIKELIHOODS]

# Clamp of the initial pixel means: only training may decide that a pixel is never or always set.
MEAN_RANGE = (1e-3, 1 - 1e-3)


@dataclass(frozen=True)
class VAEConfig(ConditionalConfig):
    """Settings of a VAE with multi-layer perceptrons."""

    family = "vae"

    hidden: Annotated[tuple[Units, ...], Length(1, 32)] = (512, 256)
    """Widths of the encoder's hidden layers. The decoder has the same widths in reverse order."""
    latent: Units = 32
    """Number of latent dimensions."""
    likelihood: LikelihoodName = "discretized"
    """Likelihood of the data. gaussian: unit variance, pixels in [0, 1]. bernoulli: binary pixels. discretized: 8-bit levels."""
    activation: Literal["relu", "tanh", "silu"] = "relu"
    """Activation function of the hidden layers."""
    residual: bool = False
    """Add a skip connection around each hidden layer whose input has the same width."""
    importance_samples: Annotated[int, Between(1, 10_000)] = 1
    """Number of samples K of the importance-weighted training bound. 1: the ELBO with its KL in closed form."""

    def __post_init__(self):
        check(self, "model")


class PerceptronFamily(Family):
    """Base of the VAE and hierarchical VAE families."""

    def prepare(self, module: Any, data: Tensor, augment: str) -> None:
        """Initialize a binary decoder at the log-odds of each pixel's mean for every z, so that it need not learn them."""
        from kakusan.data.scale import TOP
        from kakusan.models.mixture import split

        if split(module)[0].likelihood.binary:
            mean = (data.float().mean(0) / TOP).clamp(*MEAN_RANGE)
            self.lowest_decoder(module).out.bias.data.copy_(mean.logit().flatten())

    def lowest_decoder(self, module: Any) -> Any:
        """Return the network of p(x | z_1)."""
        return module.decoder

    def loss(self, config: Any) -> TrainingLoss:
        """Return the loss: minus the ELBO, or minus the importance-weighted bound, per dimension."""
        from kakusan.bound import importance_bound

        num = config.importance_samples
        if num == 1:
            return super().loss(config)

        def loss(module: Any, x: Tensor, indices: Tensor, randomness: Any, cond: Tensor | None = None) -> Tensor:
            if cond is not None:
                cond = module.classes.completed(x, cond, randomness)
            return -importance_bound(module, x, num, randomness, cond=cond, checked=True) / x[0].numel()

        return loss

    def details(self, model: TrainedModel, data: Tensor, seed: int) -> dict[str, Any]:
        """Return the bits that each latent carries; empty for a model with classes."""
        from kakusan.likelihood.information import of_latents
        from kakusan.models.mixture import split

        if split(model.chain)[1] is not None:
            return {}
        return {
            "latents": [level.record() for level in of_latents(model.chain, model.batches(data, seed), len(data), seed)]
        }

    def detail_lines(self, details: dict[str, Any]) -> list[str]:
        """Return one line for each level of latents."""
        from kakusan.likelihood.information import latent_line

        return [latent_line(level) for level in details.get("latents", [])]


class VAEFamily(PerceptronFamily):
    """Family of VAEs of images."""

    name = "vae"
    config = VAEConfig

    def build(self, config: VAEConfig, event_shape: tuple[int, ...]) -> nn.Module:
        """Build a VAE of perceptrons."""
        from kakusan.models.vae import VAE

        check_sizes(hidden=config.hidden, latent=(config.latent,), importance_samples=(config.importance_samples,))
        latent = (config.latent,)
        gaussian_mlp = perceptrons(config)[0]
        decoder = data_decoder(config, latent, config.hidden[::-1], event_shape)
        encoder = gaussian_mlp(event_shape, config.hidden, latent)
        return conditioned(VAE(encoder, decoder, latent, config.likelihood, event_shape), config, event_shape)


def data_decoder(
    config: Any, latent: tuple[int, ...], hidden: tuple[int, ...], event_shape: tuple[int, ...]
) -> nn.Module:
    """Build the decoder of the data, with the head that its likelihood needs."""
    from kakusan.likelihoods import as_likelihood

    likelihood = as_likelihood(config.likelihood)
    gaussian_mlp, mlp = perceptrons(config)
    # 8-bit digits need one standard deviation per pixel: the background is certain, the edges are not.
    if likelihood.has_log_var:
        return gaussian_mlp(latent, hidden, event_shape)
    return mlp(latent, hidden, event_shape, sigmoid=likelihood.squashed)


def perceptrons(config: Any) -> tuple[Callable[..., nn.Module], Callable[..., nn.Module]]:
    """Return two constructors of perceptrons, with two heads and with one, that use the settings' hidden layers."""
    from kakusan.nets.mlp import MLP, GaussianMLP

    layers = {"activation": config.activation, "residual": config.residual, "num_classes": config.num_conditions}
    return functools.partial(GaussianMLP, **layers), functools.partial(MLP, **layers)


def check_sizes(**sizes: tuple[int, ...]) -> None:
    """Raise InputError unless each name has one or more sizes, all at least 1."""
    for name, values in sizes.items():
        if not values or min(values) < 1:
            raise InputError(f"{name} needs one or more sizes of at least 1, got {values}")
