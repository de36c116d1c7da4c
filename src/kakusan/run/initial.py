"""Fine-tuning: a new run that starts from the weights of a trained model, on other data.

The model is copied into the run, so the original may be deleted. A run that ends before its first checkpoint starts again
from the same weights.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from torch import nn

from kakusan.errors import InputError
from kakusan.run import model_file
from kakusan.run.directory import INITIAL, RunDirectory
from kakusan.run.model_file import ExportedModel
from kakusan.run.recipe import RECIPES, Recipe
from kakusan.run.source import open_source

CLASSES = "clusters."  # prefix of the clusters of a mixture, which are computed anew from the new data


def read_initial(path: Path, recipe: Recipe) -> ExportedModel:
    """Read the exported model from which a run of this recipe starts.

    Raises:
        InputError: If the model is a student or of another family, or the recipe changes its settings.
    """
    initial = open_source(path).read_shareable()
    theirs = initial.facts.recipe
    if recipe.distil is not None or theirs.distil is not None:
        raise InputError(f"--init is not for students, and {path} or recipe {recipe.name} is one; omit --init")
    if type(theirs.model) is not type(recipe.model):
        raise InputError(f"{path} is a {theirs.family} model, and recipe {recipe.name} trains {recipe.family} models")
    if recipe.name in RECIPES and recipe.model != RECIPES[recipe.name].model:
        raise InputError(f"--init takes the model of {path} with its settings; leave out the --model flags")
    return initial


def fine_tuned(recipe: Recipe, initial: ExportedModel) -> Recipe:
    """Return the recipe with the settings of the initial model, and its images at that model's size and channels.

    Raises:
        InputError: If the recipe requires another size or other channels.
    """
    shape, pictures = initial.facts.event_shape, recipe.pictures
    if len(shape) > 1:
        for name, wanted, own in (("size", pictures.size, shape[1:]), ("channels", pictures.channels, shape[0])):
            if wanted not in (None, own):
                raise InputError(f"the model of --init has {name} {own}, got --{name} {wanted}; omit --{name}")
        pictures = dataclasses.replace(pictures, size=(shape[1], shape[2]), channels=shape[0], fit=False)
    return dataclasses.replace(recipe, model=initial.facts.recipe.model, pictures=pictures)


def keep_initial(run: RunDirectory, initial: ExportedModel) -> None:
    """Write the initial model into the new run."""
    run.write_bytes(INITIAL, initial.to_bytes())


def kept_initial(run: RunDirectory) -> ExportedModel | None:
    """Return the initial model kept in a run; None if the run started from random weights."""
    path = run.path / INITIAL
    return model_file.read(path) if path.is_file() else None


def start_from(module: nn.Module, initial: ExportedModel) -> None:
    """Load the weights of the initial model, except its clusters."""
    weights = {name: weight for name, weight in initial.weights.items() if not name.startswith(CLASSES)}
    missing, unexpected = module.load_state_dict(weights, strict=False)
    if unexpected or any(not name.startswith(CLASSES) for name in missing):
        raise InputError("the weights of --init do not fit the model of its own settings; export it again")
