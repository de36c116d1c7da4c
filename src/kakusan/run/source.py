"""A trained model on disk: a run directory or an exported file. This module decides which of the two it is."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from kakusan.run import model_file
from kakusan.run.build import event_shape_of
from kakusan.run.directory import RunDirectory, path_of_run
from kakusan.run.model_file import ExportedModel, Facts, Source
from kakusan.run.recipe import recipe_of, without_label_path
from kakusan.run.student import used_weights
from kakusan.settings import from_values
from kakusan.training import checkpoint

SHARED_VERSIONS = ("kakusan", "python", "torch", "numpy")


@dataclass(frozen=True)
class ModelSource:
    """Source of a model and its facts; the weights are not read yet.

    Attributes:
        path: Run directory or file.
        facts: Recipe, shape, data and versions.
        run: The run directory; None for a file.
    """

    path: Path
    facts: Facts
    run: RunDirectory | None

    @property
    def name(self) -> str:
        """Name for files that are derived from the model."""
        path = self.path.resolve()
        return path.stem if self.run is None else path.name

    def read(self) -> ExportedModel:
        """Read the model: the averaged weights of a run's newest intact checkpoint, or the content of a file."""
        if self.run is None:
            return model_file.read(self.path)
        recipe = self.facts.recipe
        newest = checkpoint.latest(self.run.checkpoints)
        early = checkpoint.early_weights(newest) if recipe.model.guided else None
        return ExportedModel(self.facts, used_weights(recipe, checkpoint.averaged_weights(newest)), early)

    def read_shareable(self) -> ExportedModel:
        """Read the model without paths of this machine; InputError unless `model_file.read` would accept its file."""
        model = self.read()
        recipe = without_label_path(model.facts.recipe)
        recipe = dataclasses.replace(recipe, data=Path(recipe.data).name)
        model = dataclasses.replace(model, facts=dataclasses.replace(model.facts, recipe=recipe))
        model.check(self.path)
        return model


def open_source(path: Path | str) -> ModelSource:
    """Open a run directory or an exported file; InputError if it is neither, or its record is damaged."""
    path = path_of_run(path).expanduser()
    if path.is_file():
        return ModelSource(path, model_file.read_facts(path), None)
    run = RunDirectory.open(path)
    record, data = run.read("run.json"), run.read("data.json")
    recipe = recipe_of(path, record)
    facts = Facts(
        recipe=recipe,
        event_shape=event_shape_of(recipe.model, data["event_shape"]),
        data=from_values(Source, {name: data[name] for name in ("name", "kind", "digest")}, "data"),
        versions={name: record["versions"][name] for name in SHARED_VERSIONS if name in record["versions"]},
    )
    return ModelSource(path, facts, run)
