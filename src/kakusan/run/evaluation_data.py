"""The data that a run is measured on."""

from __future__ import annotations

from pathlib import Path

from kakusan.console import tell
from kakusan.data.dataset import Dataset
from kakusan.data.open import EMBEDDED, kind_of, open_data
from kakusan.data.options import ImageOptions
from kakusan.errors import InputError, shown
from kakusan.run.directory import RunDirectory
from kakusan.run.model_file import read_facts
from kakusan.run.trained_model import TrainedModel


def data_of(run: Path, model: TrainedModel, other: str | None) -> Dataset:
    """The run's own data, which must be as they were when it was trained, or `other` data, measured whole.

    `run` is a run directory or a shared file; a file's own data are opened only if they are embedded here, because
    where else to look is not for a file to say.
    """
    if other is None and run.is_file() and model.recipe.data not in EMBEDDED:
        raise InputError(f"{run} does not bring its data, {shown(model.recipe.data)}; say where they are with --data")
    wanted = model.recipe.pictures
    if other is not None:
        wanted = _fitting(model.event_shape, wanted) if "size" in getattr(kind_of(other), "options", ()) else None
    dataset = open_data(other or model.recipe.data, wanted, tell, whole=other is not None)
    model.check_data(dataset)
    if other is not None and dataset.prepared:
        tell(dataset.describe())
    if other is None and not dataset.matches(digest_of_data(run)):
        raise InputError(
            f"{model.recipe.data} has changed since {run} was trained on it; name the data to measure it on with --data"
        )
    return dataset


def _fitting(event_shape: tuple[int, ...], wanted: ImageOptions) -> ImageOptions:
    """Options that bring images of any size to the model's shape."""
    if len(event_shape) != 3:
        return wanted  # a model of counts, which will refuse them
    channels, height, width = event_shape
    return ImageOptions((height, width), channels, wanted.bad)


def digest_of_data(run: Path) -> str:
    """Of the data that the model of a run directory or of a shared file was trained on."""
    if run.is_file():
        return read_facts(run).data.digest
    return RunDirectory.open(run).read("data.json")["digest"]
