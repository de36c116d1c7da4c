"""Modules and training losses from settings, for every model family."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kakusan.console import command
from kakusan.data.dataset import Dataset
from kakusan.errors import InputError, ScheduleWarning
from kakusan.models.mixture import split
from kakusan.noise import Randomness
from kakusan.run.families import FAMILIES
from kakusan.run.families.base import LARGEST_EVENT, Family, ModelConfig
from kakusan.run.recipe import Recipe
from kakusan.training.loop import Loss

MOST_PARAMETERS = 2_000_000_000


def family_of(config: ModelConfig) -> Family:
    """Return the model family of these settings."""
    return FAMILIES[config.family]()


def family_for(recipe: Recipe) -> Family:
    """Return the model family of a recipe; with distillation settings, the family of its student."""
    family = family_of(recipe.model)
    return family if recipe.distil is None else family.student()


def build(config: ModelConfig, event_shape: tuple[int, ...]) -> nn.Module:
    """Build an untrained module for examples of this shape. InputError, before allocation, if it would be too large."""
    blueprint(config, event_shape)
    return family_of(config).build(config, event_shape)


class _WithoutNormalDraws(TorchFunctionMode):
    """Leave out normal draws, because the first one on the meta device makes torch import for over a second."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        return given["tensor"] if func is nn.init.normal_ else func(*args, **given)


@functools.lru_cache(maxsize=32)
def blueprint(config: ModelConfig, event_shape: tuple[int, ...]) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Return shape and dtype of each tensor of the module by name. The meta device is used, so nothing is allocated."""
    if not 2 <= math.prod(event_shape) <= LARGEST_EVENT:
        raise InputError(f"an example must have 2 to {LARGEST_EVENT:,} numbers, got the shape {event_shape}")
    with torch.device("meta"), _WithoutNormalDraws(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ScheduleWarning)  # a warning is shown later, when the model is really built
        state = family_of(config).build(config, event_shape).state_dict()
    total = sum(tensor.numel() for tensor in state.values())
    if total > MOST_PARAMETERS:
        raise InputError(
            f"this model would have {total:,} parameters, more than {MOST_PARAMETERS:,}; make it narrower or shallower"
        )
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in state.items()}


def event_shape_of(config: ModelConfig, values: Any) -> tuple[int, ...]:
    """Return the shape of an example from a JSON record; InputError if the family has no such data."""
    return family_of(config).event_shape(values)


def with_weights(config: ModelConfig, event_shape: tuple[int, ...], weights: Mapping[str, Tensor]) -> nn.Module:
    """Build a module of these settings with these weights. Torch's global generator does not change."""
    with torch.random.fork_rng(devices=[]):  # skips random initialization, because the weights are given
        module = build(config, event_shape)
    module.load_state_dict(weights)
    return module


def scale_of(config: ModelConfig) -> Any:
    """Return the scale that maps stored values to the model's values."""
    return family_of(config).scale(config)


def check_kind(recipe: Recipe, dataset: Dataset) -> None:
    """Raise InputError if a recipe cannot use data of this kind."""
    needed = family_of(recipe.model).kind
    if dataset.kind != needed:
        other = dataset.form.recipe(dataset)
        raise InputError(
            f"recipe {recipe.name} needs {needed}, and {dataset.name} holds {dataset.kind}; "
            f"type: {command('train', other, '--data', recipe.data)}"
        )
    if recipe.optim.augment != "none" and not dataset.form.augmentable:
        raise InputError(f"optim.augment is for images, and {dataset.name} holds {dataset.kind}; choose none")
    if dataset.bits and getattr(recipe.model, "likelihood", None) != "bernoulli":
        raise InputError(
            f"the held-out part of {dataset.name} is bits, and recipe {recipe.name} gives probabilities of other values; "
            f"type: {command('train', 'binary-best', '--data', recipe.data)}"
        )


def start_at(
    module: nn.Module, config: ModelConfig, data: Tensor, augment: str = "none", labels: Tensor | None = None
) -> None:
    """Initialize a module from the training data, e.g. its clusters, labels or mean pixels."""
    family_of(config).prepare(module, data, augment)
    family_of(config).observe(module, config, data, augment, labels)


def training_loss(
    module: nn.Module, config: ModelConfig, data: Tensor, augment: str = "none", labels: Tensor | None = None
) -> Loss:
    """Return the training loss as a function of example indices.

    Args:
        module: The module to train.
        config: Its settings.
        data: Training examples, on the device.
        augment: The setting optim.augment.
        labels: Class of each example, on the device, for a model of labels; -1: unlabeled.
    """
    family = family_of(config)
    own = family.loss(config)

    def loss(indices: Tensor, randomness: Randomness) -> Tensor:
        known = {} if labels is None else {"cond": labels[indices]}
        return own(module, family.inputs(config, data[indices], augment, randomness), indices, randomness, **known)

    return loss


def training_terms(
    module: nn.Module,
    config: ModelConfig,
    data: Tensor,
    indices: Tensor,
    randomness: Randomness,
    augment: str = "none",
    labels: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return the terms of the bound that make up the loss, each (b,), in nats; empty if the loss is not such a sum.

    A missing label is drawn from q(k | x).
    """
    family = family_of(config)
    x = family.inputs(config, data[indices], augment, randomness)
    if labels is None:
        return family.terms(config, module, x, randomness)
    classes = split(module)[1]
    assert classes is not None, "a model of labels"
    return family.terms(config, module, x, randomness, classes.completed(x, labels[indices]))


def count_parameters(module: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
