"""From settings to a model: the only place that joins networks, data and models."""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from kakusan.conjugate import DirichletMultinomial
from kakusan.data.dataset import Dataset
from kakusan.data.scale import BINARY, SIGNED, UNIT, Scale
from kakusan.diffusion import Diffusion
from kakusan.distributions import add
from kakusan.errors import InputError
from kakusan.hierarchy import HierarchicalVAE
from kakusan.nets.mlp import MLP, GaussianMLP
from kakusan.nets.unet import UNet
from kakusan.noise import Randomness
from kakusan.recipes.config import (
    DiffusionConfig,
    DirichletConfig,
    HierarchyConfig,
    ModelConfig,
    Recipe,
    VAEConfig,
)
from kakusan.recipes.conjugate_fit import ConjugateFit
from kakusan.schedule import Schedule
from kakusan.steps import StepLaw
from kakusan.train.loop import Loss
from kakusan.vae import VAE

Model = Diffusion | VAE | HierarchicalVAE | DirichletMultinomial
Trainable = Diffusion | VAE | HierarchicalVAE | ConjugateFit


def build(config: ModelConfig, event_shape: tuple[int, ...]) -> Trainable:
    """An untrained model of examples of this shape."""
    match config:
        case DiffusionConfig():
            return _diffusion(config, event_shape)
        case VAEConfig():
            return _vae(config, event_shape)
        case HierarchyConfig():
            return _hierarchy(config, event_shape)
        case DirichletConfig():
            return ConjugateFit(config, event_shape)


def scale_of(config: ModelConfig) -> Scale:
    """What numbers the model wants for pixels."""
    if isinstance(config, DiffusionConfig):
        return SIGNED
    assert isinstance(config, VAEConfig | HierarchyConfig), "counts are not scaled"
    return {"gaussian": UNIT, "bernoulli": BINARY, "discretized": SIGNED}[config.likelihood]


def check_kind(recipe: Recipe, dataset: Dataset) -> None:
    """InputError if a recipe cannot use this kind of data."""
    needed = "counts" if isinstance(recipe.model, DirichletConfig) else "images"
    if dataset.kind != needed:
        other = "counts-dirichlet" if dataset.kind == "counts" else "mnist-ddpm"
        raise InputError(
            f"recipe {recipe.name} needs {needed}, and {dataset.name} holds {dataset.kind}; try: kakusan train {other}"
        )


def training_loss(module: Trainable, config: ModelConfig, data: Tensor) -> Loss:
    """What the trainer minimises, as a function of example indices; `data` is the training part, on the device."""
    if isinstance(module, ConjugateFit):
        return lambda indices, randomness: -module.elbo(data[indices], indices)
    scale = scale_of(config)
    if isinstance(module, Diffusion):
        assert isinstance(config, DiffusionConfig)
        law = step_law(config)
        return lambda indices, randomness: module.loss(
            scale.to_model(data[indices], randomness), randomness, config.objective, law
        )

    def negative_elbo(indices: Tensor, randomness: Randomness) -> Tensor:
        x = scale.to_model(data[indices], randomness)
        return -add(module.terms(x, randomness).values()) / x[0].numel()

    return negative_elbo


def step_law(config: DiffusionConfig) -> StepLaw:
    """Which steps the simple loss trains at."""
    if not 0 <= config.focus_share <= 1:
        raise InputError(f"focus_share must lie in [0, 1], got {config.focus_share}")
    schedule = _schedule(config)
    focused, even = StepLaw.log_snr_normal(schedule, *config.focus), StepLaw.uniform(config.depth)
    return StepLaw(config.focus_share * focused.probs + (1 - config.focus_share) * even.probs)


def _schedule(config: DiffusionConfig) -> Schedule:
    return getattr(Schedule, config.schedule)(config.depth)


def _diffusion(config: DiffusionConfig, event_shape: tuple[int, ...]) -> Diffusion:
    schedule = _schedule(config)
    step_law(config)  # bad settings show now, not when training starts
    channels, height, width = event_shape
    network = UNet(
        channels,
        (height, width),
        depth=config.depth,
        width=config.width,
        inner_width=config.inner_width,
        blocks=config.blocks,
        time=config.time,
        gate=config.variance == "learned",
    )
    bounded = (-1.0, 1.0)
    return Diffusion(
        network,
        schedule,
        event_shape,
        prediction=config.prediction,
        variance=config.variance,
        likelihood=config.likelihood,
        clip=bounded,
    )


def _vae(config: VAEConfig, event_shape: tuple[int, ...]) -> VAE:
    _check_sizes(hidden=config.hidden, latent=(config.latent,))
    latent = (config.latent,)
    upwards, downwards = config.hidden, config.hidden[::-1]
    # 8-bit digits need a spread for each pixel: the background is certain, the edges are not.
    decoder = (
        GaussianMLP(latent, downwards, event_shape)
        if config.likelihood == "discretized"
        else MLP(latent, downwards, event_shape, sigmoid=config.likelihood == "gaussian")
    )
    return VAE(GaussianMLP(event_shape, upwards, latent), decoder, latent, config.likelihood)


def _hierarchy(config: HierarchyConfig, event_shape: tuple[int, ...]) -> HierarchicalVAE:
    _check_sizes(hidden=(config.hidden,), latents=config.latents)
    shapes = [event_shape, *((size,) for size in config.latents)]
    hidden = (config.hidden,)
    encoders = [GaussianMLP(below, hidden, above) for below, above in itertools.pairwise(shapes)]
    decoders: list[nn.Module] = [
        GaussianMLP(shapes[1], hidden, event_shape)
        if config.likelihood == "discretized"
        else MLP(shapes[1], hidden, event_shape, sigmoid=config.likelihood == "gaussian")
    ]
    decoders += [MLP(above, hidden, below) for below, above in itertools.pairwise(shapes[1:])]
    return HierarchicalVAE(encoders, decoders, shapes[1:], config.likelihood, config.third_term)


def _check_sizes(**sizes: tuple[int, ...]) -> None:
    for name, values in sizes.items():
        if not values or min(values) < 1:
            raise InputError(f"{name} needs one or more sizes of at least 1, got {values}")


def exact_chain(module: Trainable) -> Model:
    """The chain to use a trained module by: itself, or what a conjugate fit arrived at."""
    return module.chain() if isinstance(module, ConjugateFit) else module


def count_parameters(module: nn.Module) -> int:
    """Trainable numbers."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
