"""Data on which a model is evaluated."""

from __future__ import annotations

import dataclasses

from kakusan.console import tell
from kakusan.data.dataset import Dataset
from kakusan.data.open import EMBEDDED, takes
from kakusan.data.options import ImageOptions
from kakusan.errors import InputError, shown
from kakusan.run.own_data import open_for
from kakusan.run.recipe import without_label_path
from kakusan.run.source import ModelSource
from kakusan.run.trained_model import TrainedModel


def data_of(source: ModelSource, model: TrainedModel, other: str | None, argument: str = "--data") -> Dataset:
    """Return the data of a run, which must be unchanged; or all of `other`, which must fit the model.

    `argument` is the name of `other` in the command that was typed, for errors.
    An exported file never causes a path to be opened: its own data are used only if the package contains them.
    """
    if other is None and source.run is None and model.recipe.data not in EMBEDDED:
        raise InputError(
            f"{source.path} does not contain its data, {shown(model.recipe.data)}; name them with --data PATH"
        )
    own = other is not None or source.run is not None
    recipe = model.recipe if own else without_label_path(model.recipe)
    wanted = recipe.pictures
    if other is not None:
        of_one_size = dataclasses.replace(without_label_path(model.recipe).pictures, size=None, channels=None)
        options = options_for(other, model.event_shape, wanted) or of_one_size
        wanted = model.family.reading(model.recipe.model, options)
    dataset = open_for(source.path, other or model.recipe.data, wanted, whole=other is not None)
    if other is not None:
        dataset = model.family.conform(model.recipe.model, dataset)
    model.check_data(dataset, argument)
    if other is not None and dataset.prepared:
        tell(dataset.describe())
    if other is None and not dataset.matches(source.facts.data.digest):
        raise InputError(
            f"{model.recipe.data} has changed since {source.path} was trained on it; name the data to evaluate on with "
            "--data PATH"
        )
    return dataset


def options_for(path: str, event_shape: tuple[int, ...], wanted: ImageOptions) -> ImageOptions | None:
    """Return options that bring images of any size to the model's shape; None for data of a fixed size."""
    if not takes(path, "size"):
        return None
    if len(event_shape) != 3:
        return wanted  # a model of counts, which will reject them
    channels, height, width = event_shape
    return ImageOptions((height, width), channels, wanted.bad)
