"""From settings to a model: the only place that joins networks, data and models."""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kakusan.bound import importance_bound
from kakusan.data.arrays import CHANNELS
from kakusan.data.augment import augmented
from kakusan.data.dataset import Dataset
from kakusan.data.scale import BINARY, SIGNED, TOP, UNIT, Scale
from kakusan.distributions import add
from kakusan.errors import InputError, ScheduleWarning, shown
from kakusan.guidance import check_guidance
from kakusan.models.clusters import LEARNED_FROM, Clusters, coarse
from kakusan.models.diffusion import Diffusion
from kakusan.models.dirichlet_fit import ConjugateFit
from kakusan.models.dirichlet_multinomial import DirichletMultinomial
from kakusan.models.hierarchical_vae import HierarchicalVAE
from kakusan.models.vae import VAE
from kakusan.nets import NETWORKS
from kakusan.nets.mlp import MLP, GaussianMLP
from kakusan.noise import Randomness, stream
from kakusan.objectives.distillation import Distillation
from kakusan.run.recipe import (
    DiffusionConfig,
    DirichletConfig,
    HierarchyConfig,
    ModelConfig,
    Recipe,
    VAEConfig,
)
from kakusan.schedule import Schedule
from kakusan.timesteps import StepLaw
from kakusan.train.loop import Loss

Model = Diffusion | VAE | HierarchicalVAE | DirichletMultinomial
Trainable = Diffusion | VAE | HierarchicalVAE | ConjugateFit | Distillation
MOST_DIMS = 2**24  # of one example
MOST_PARAMETERS = 2_000_000_000
NUMBERS_AT_ONCE = 2**22  # of pictures that clusters are looked for in
SEEN_FOR_CLUSTERS = 2**15  # examples: of 128 clusters a share then has an error of 6 % of it
MEAN_RANGE = (1e-3, 1 - 1e-3)  # beyond it log-odds say that a pixel is never or always set; training may find so


def build(config: ModelConfig, event_shape: tuple[int, ...]) -> Trainable:
    """An untrained model of examples of this shape; InputError, and nothing allocated, if it would be too large."""
    blueprint(config, event_shape)
    return _build(config, event_shape)


@functools.lru_cache(maxsize=32)
def blueprint(config: ModelConfig, event_shape: tuple[int, ...]) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Name, shape and dtype of each tensor of the model, found on torch's meta device: no number is allocated."""
    if not 2 <= math.prod(event_shape) <= MOST_DIMS:
        raise InputError(f"an example must have 2 to {MOST_DIMS:,} numbers, got the shape {event_shape}")
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ScheduleWarning)  # it comes when the model is built
        state = _build(config, event_shape).state_dict()
    total = sum(tensor.numel() for tensor in state.values())
    if total > MOST_PARAMETERS:
        raise InputError(
            f"this model would have {total:,} parameters, more than {MOST_PARAMETERS:,}; make it narrower or shallower"
        )
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in state.items()}


def _build(config: ModelConfig, event_shape: tuple[int, ...]) -> Trainable:
    match config:
        case DiffusionConfig():
            return _diffusion(config, event_shape)
        case VAEConfig():
            return _vae(config, event_shape)
        case HierarchyConfig():
            return _hierarchy(config, event_shape)
        case DirichletConfig():
            return ConjugateFit(config, event_shape)


def event_shape_of(config: ModelConfig, values: Any) -> tuple[int, ...]:
    """The shape of an example as a record has it: (C, H, W) of a picture, (K,) of counts; InputError for any other."""
    whole = isinstance(values, list) and all(type(value) is int and 0 < value <= MOST_DIMS for value in values)
    picture = whole and len(values) == 3 and values[0] in CHANNELS
    if not ((whole and len(values) == 1) if isinstance(config, DirichletConfig) else picture):
        needed = "[categories]" if isinstance(config, DirichletConfig) else "[1, 3 or 4 channels, height, width]"
        raise InputError(f"the record's event_shape must be {needed}, got {shown(values)}")
    return tuple(values)


def with_weights(config: ModelConfig, event_shape: tuple[int, ...], weights: Mapping[str, Tensor]) -> Trainable:
    """A model of these settings with these weights; torch's global generator is left as it is."""
    with torch.random.fork_rng(devices=[]):  # the weights to come replace what building draws
        module = build(config, event_shape)
    module.load_state_dict(weights)
    return module


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
            f"recipe {recipe.name} needs {needed}, and {dataset.name} holds {dataset.kind}; try: kakusan train {other} --data {recipe.data}"
        )
    if recipe.optim.augment != "none" and dataset.kind != "images":
        raise InputError(f"optim.augment is for images, and {dataset.name} holds {dataset.kind}; choose none")
    if dataset.bits and getattr(recipe.model, "likelihood", None) != "bernoulli":
        raise InputError(
            f"{dataset.name} is held out as bits, and recipe {recipe.name} gives probabilities of other values; "
            "try: kakusan train binary-best"
        )


def start_at(module: Trainable, data: Tensor, augment: str = "none") -> None:
    """What an untrained module takes from the training part: clusters, room for its rows of counts, or the mean image of bits.

    Clusters are found in what training sees, pictures moved as it moves them, so that they are drawn as often as learned.

    A Bernoulli decoder then begins with the log-odds of each pixel's mean, whatever z is: it need not learn them.
    """
    if isinstance(module, ConjugateFit):
        module.start_at(data)
    elif isinstance(module, Diffusion) and module.clusters is not None:
        drawn, each = stream("clusters of"), max(1, NUMBERS_AT_ONCE // module.num_dims)
        seen = max(SEEN_FOR_CLUSTERS, LEARNED_FROM * len(module.clusters.share))
        rows = torch.randperm(len(data), generator=drawn)[:seen].to(data.device)
        pictures = (augmented(data[part], augment, drawn) for part in rows.split(each))
        module.clusters.find(torch.cat([coarse(SIGNED.to_model(one)).cpu() for one in pictures]))
    elif isinstance(module, VAE | HierarchicalVAE) and module.likelihood == "bernoulli":
        decoder = module.decoder if isinstance(module, VAE) else module.decoders[0]
        assert isinstance(decoder, MLP), "built here"
        mean = (data.float().mean(0) / TOP).clamp(*MEAN_RANGE)
        decoder.out.bias.data.copy_(mean.logit().flatten())


def training_loss(module: Trainable, config: ModelConfig, data: Tensor, augment: str = "none") -> Loss:
    """What the trainer minimises, as a function of example indices.

    Args:
        module: What is trained.
        config: Its settings.
        data: The training part, on the device.
        augment: The setting of that name.
    """
    if isinstance(module, ConjugateFit):
        return lambda indices, randomness: -module.elbo(data[indices], indices)
    scale = scale_of(config)
    if isinstance(module, Diffusion):
        assert isinstance(config, DiffusionConfig)
        law = step_law(config)

        def loss(indices: Tensor, randomness: Randomness) -> Tensor:
            x = scale.to_model(augmented(data[indices], augment, randomness), randomness)
            return module.loss(x, randomness, config.objective, law)

        return loss

    assert not isinstance(module, Distillation), "it has a teacher: see recipes/student.py"
    assert isinstance(config, VAEConfig | HierarchyConfig)
    num_samples = config.importance_samples

    def negative_bound(indices: Tensor, randomness: Randomness) -> Tensor:
        x = scale.to_model(augmented(data[indices], augment, randomness), randomness)
        if num_samples == 1:
            return -add(module.terms(x, randomness).values()) / x[0].numel()
        return -importance_bound(module, x, num_samples, randomness, checked=True) / x[0].numel()

    return negative_bound


def training_terms(
    module: Trainable,
    config: ModelConfig,
    data: Tensor,
    indices: Tensor,
    randomness: Randomness,
    augment: str = "none",
) -> dict[str, Tensor]:
    """What the bound in the loss of each example is made of, in nats, (b,); nothing where it is not a sum of terms."""
    if not isinstance(module, VAE | HierarchicalVAE):
        return {}
    x = scale_of(config).to_model(augmented(data[indices], augment, randomness), randomness)
    return module.terms(x, randomness)


def step_law(config: DiffusionConfig) -> StepLaw:
    """Which steps the simple loss trains at."""
    if not 0 <= config.focus_share <= 1:
        raise InputError(f"focus_share must lie in [0, 1], got {config.focus_share}")
    schedule = schedule_of(config)
    with torch.device("cpu"):
        focused, even = StepLaw.log_snr_normal(schedule, *config.focus), StepLaw.uniform(schedule.depth)
    return StepLaw(config.focus_share * focused.probs + (1 - config.focus_share) * even.probs)


def schedule_of(config: DiffusionConfig) -> Schedule:
    """Of the model's steps, up to the one where it begins."""
    curves = {"linear": Schedule.linear, "cosine": Schedule.cosine, "sigmoid": Schedule.sigmoid}
    with torch.device("cpu"):  # its tables are numbers, also where the networks are but shapes
        whole = curves[config.schedule](config.depth)
        if config.begin is None:
            return whole
        if config.begin > config.depth:
            raise InputError(f"model.begin must lie in 1..{config.depth}, the model's own steps, got {config.begin}")
        return whole.respaced(list(range(1, config.begin + 1)))


def _diffusion(config: DiffusionConfig, event_shape: tuple[int, ...]) -> Diffusion:
    schedule = schedule_of(config)
    step_law(config)  # bad settings show now, not when training starts
    check_guidance(config.guidance, config.guidance_range)
    bounded = (-1.0, 1.0)
    return Diffusion(
        NETWORKS[config.network].from_config(config, event_shape),
        schedule,
        event_shape,
        prediction=config.prediction,
        variance=config.variance,
        likelihood=config.likelihood,
        clip=bounded,
        clusters=Clusters(config.clusters, event_shape) if config.clusters else None,
    )


def _vae(config: VAEConfig, event_shape: tuple[int, ...]) -> VAE:
    _check_sizes(hidden=config.hidden, latent=(config.latent,), importance_samples=(config.importance_samples,))
    latent = (config.latent,)
    upwards, downwards = config.hidden, config.hidden[::-1]
    gaussian_mlp, mlp = _perceptrons(config)
    # 8-bit digits need a spread for each pixel: the background is certain, the edges are not.
    decoder = (
        gaussian_mlp(latent, downwards, event_shape)
        if config.likelihood == "discretized"
        else mlp(latent, downwards, event_shape, sigmoid=config.likelihood == "gaussian")
    )
    return VAE(gaussian_mlp(event_shape, upwards, latent), decoder, latent, config.likelihood, event_shape)


def _hierarchy(config: HierarchyConfig, event_shape: tuple[int, ...]) -> HierarchicalVAE:
    upper_hidden = config.hidden if config.upper_hidden is None else config.upper_hidden
    _check_sizes(
        hidden=(config.hidden,),
        upper_hidden=(upper_hidden,),
        layers=(config.layers,),
        latents=config.latents,
        importance_samples=(config.importance_samples,),
    )
    if config.importance_samples > 1 and config.third_term == "notes":
        raise InputError("importance_samples above 1 raise a bound of the exact form; leave third_term exact with them")
    gaussian_mlp, mlp = _perceptrons(config)
    shapes = [event_shape, *((size,) for size in config.latents)]
    pairs = list(itertools.pairwise(shapes))
    hidden = [(config.hidden,) * config.layers, *[(upper_hidden,) * config.layers] * (len(pairs) - 1)]
    encoders = [gaussian_mlp(below, wide, above) for (below, above), wide in zip(pairs, hidden)]
    decoders: list[nn.Module] = [
        gaussian_mlp(shapes[1], hidden[0], event_shape)
        if config.likelihood == "discretized"
        else mlp(shapes[1], hidden[0], event_shape, sigmoid=config.likelihood == "gaussian")
    ]
    upper = gaussian_mlp if config.variance == "learned" else mlp
    decoders += [upper(above, wide, below) for (below, above), wide in zip(pairs[1:], hidden[1:])]
    return HierarchicalVAE(encoders, decoders, shapes[1:], config.likelihood, config.third_term, event_shape)


def _perceptrons(config: VAEConfig | HierarchyConfig) -> tuple[Callable[..., GaussianMLP], Callable[..., MLP]]:
    """Both kinds, with the config's hidden layers."""
    layers = {"activation": config.activation, "residual": config.residual}
    return functools.partial(GaussianMLP, **layers), functools.partial(MLP, **layers)


def _check_sizes(**sizes: tuple[int, ...]) -> None:
    for name, values in sizes.items():
        if not values or min(values) < 1:
            raise InputError(f"{name} needs one or more sizes of at least 1, got {values}")


def exact_chain(module: Trainable) -> Model:
    """The chain to use a trained module by: itself, what a conjugate fit arrived at, or a student."""
    return module.chain() if isinstance(module, ConjugateFit | Distillation) else module


def count_parameters(module: nn.Module) -> int:
    """Trainable numbers."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
