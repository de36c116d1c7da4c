"""The data that a run is measured on."""

from __future__ import annotations

from pathlib import Path

from kakusan.data.dataset import Dataset
from kakusan.data.open import open_data
from kakusan.errors import InputError
from kakusan.model import TrainedModel
from kakusan.rundir import RunDirectory


def data_of(run: Path, model: TrainedModel, other: str | None) -> Dataset:
    """The run's own data, which must be as they were when it was trained, or `other` data that fit its model."""
    dataset = open_data(other or model.recipe.data)
    model.check_data(dataset)
    if other is None and dataset.digest() != RunDirectory.open(run).read("data.json")["digest"]:
        raise InputError(
            f"{model.recipe.data} has changed since {run} was trained on it; name the data to measure it on with --data"
        )
    return dataset
