"""Data of a run, opened with a cache next to the run, and the settings that depend on them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from kakusan.console import command, tell
from kakusan.data.cache import NAME
from kakusan.data.dataset import Dataset
from kakusan.data.open import open_data, takes
from kakusan.data.options import ImageOptions
from kakusan.errors import InputError, printable
from kakusan.run.build import family_of
from kakusan.run.recipe import Recipe


def open_for(run: Path, data: str, pictures: ImageOptions | None, *, whole: bool = False) -> Dataset:
    """Open the data of a run or exported file. Data larger than memory are cached next to it."""
    options = dataclasses.replace(pictures or ImageOptions(), cache=str(run.absolute().parent / NAME))
    return open_data(data, options, tell, whole=whole)


def check_images(recipe: Recipe) -> None:
    """Raise InputError for a folder of images and a recipe of other data, before any image is read."""
    family = family_of(recipe.model)
    if not family.form.has_pixels and takes(recipe.data, "size"):
        raise InputError(
            f"recipe {recipe.name} needs {family.kind}, and {printable(recipe.data)} is a folder of images; "
            f"type: {command('train', 'images', '--data', recipe.data)}"
        )


def planned(recipe: Recipe, dataset: Dataset) -> Recipe:
    """Choose image size and network for these data; return the recipe, and print the choice of the network."""
    pictures = recipe.pictures
    if pictures.fit:
        size = pictures.size
        if size is None and takes(recipe.data, "size"):
            size = (dataset.event_shape[1], dataset.event_shape[2])
        pictures = dataclasses.replace(pictures, size=size, fit=False)
    model, words = family_of(recipe.model).plan(recipe.model, dataset.event_shape, len(dataset.train))
    if words:
        tell(words)
    return dataclasses.replace(recipe, pictures=pictures, model=model)
