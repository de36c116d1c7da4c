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

MEAN_RANGE = (1e-3, 1 - 1e-3)  # beyond it log-odds say that a pixel is never or always set; training may find so


@dataclass(frozen=True)
class VAEConfig(ConditionalConfig):
    """Settings of a VAE with multi-layer perceptrons."""

    family = "vae"

    hidden: Annotated[tuple[Units, ...], Length(1, 32)] = (512, 256)
    """Widths of the encoder's hidden layers. The decoder has them in reverse order."""
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
    """Common part of VAE and hierarchical VAE."""

    def prepare(self, module: Any, data: Tensor, augment: str) -> None:
        """Start a binary decoder at the log-odds of each pixel's mean, whatever z is: it need not learn them."""
        from kakusan.data.scale import TOP
        from kakusan.models.mixture import split

        if split(module)[0].likelihood.binary:
            mean = (data.float().mean(0) / TOP).clamp(*MEAN_RANGE)
            self.lowest_decoder(module).out.bias.data.copy_(mean.logit().flatten())

    def lowest_decoder(self, module: Any) -> Any:
        """The network that gives the data."""
        return module.decoder

    def loss(self, config: Any) -> TrainingLoss:
        """Minus the ELBO, or minus the importance-weighted bound, per dimension."""
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
        """Bits that each latent carries, of a model without classes."""
        from kakusan.likelihood.information import of_latents
        from kakusan.models.mixture import split

        if split(model.chain)[1] is not None:
            return {}
        return {
            "latents": [level.record() for level in of_latents(model.chain, model.batches(data, seed), len(data), seed)]
        }

    def detail_lines(self, details: dict[str, Any]) -> list[str]:
        """One line for each level of latents."""
        from kakusan.likelihood.information import latent_line

        return [latent_line(level) for level in details.get("latents", [])]


class VAEFamily(PerceptronFamily):
    """VAEs of images."""

    name = "vae"
    config = VAEConfig

    def build(self, config: VAEConfig, event_shape: tuple[int, ...]) -> nn.Module:
        """A VAE of perceptrons."""
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
    """The decoder of the data, with the head that its likelihood needs."""
    from kakusan.likelihoods import as_likelihood

    likelihood = as_likelihood(config.likelihood)
    gaussian_mlp, mlp = perceptrons(config)
    # 8-bit digits need a standard deviation for each pixel: the background is certain, the edges are not.
    if likelihood.has_log_var:
        return gaussian_mlp(latent, hidden, event_shape)
    return mlp(latent, hidden, event_shape, sigmoid=likelihood.squashed)


def perceptrons(config: Any) -> tuple[Callable[..., nn.Module], Callable[..., nn.Module]]:
    """Perceptrons with two heads and with one, with the settings' hidden layers."""
    from kakusan.nets.mlp import MLP, GaussianMLP

    layers = {"activation": config.activation, "residual": config.residual, "num_classes": config.num_conditions}
    return functools.partial(GaussianMLP, **layers), functools.partial(MLP, **layers)


def check_sizes(**sizes: tuple[int, ...]) -> None:
    """Raise InputError unless there is a size, and each is at least 1."""
    for name, values in sizes.items():
        if not values or min(values) < 1:
            raise InputError(f"{name} needs one or more sizes of at least 1, got {values}")
