"""Import of a model from another program, as a file that kakusan loads or as a finished run with a report."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import torch

from kakusan.console import tell
from kakusan.data.dataset import Dataset
from kakusan.data.open import lasting, open_data
from kakusan.data.options import ImageOptions
from kakusan.errors import InputError
from kakusan.exchange.diffusers_import import read_pipeline
from kakusan.run.build import count_parameters, with_weights
from kakusan.run.directory import RunDirectory, check_new
from kakusan.run.evaluation_data import options_for
from kakusan.run.fingerprint import versions
from kakusan.run.finish import finish
from kakusan.run.job import Job, trainer_of
from kakusan.run.model_file import ExportedModel, Source
from kakusan.run.train import data_record
from kakusan.run.trained_model import TrainedModel, of_file
from kakusan.storage import files
from kakusan.training import checkpoint
from kakusan.training.device import device_named
from kakusan.training.settings import Budget

SUFFIX = ".safetensors"


def import_model(
    folder: Path | str,
    out: Path | str | None = None,
    data: str | None = None,
    device: str = "auto",
    command: list[str] | None = None,
) -> TrainedModel:
    """Import a pipeline folder of diffusers.

    Args:
        folder: A DDPM or DDIM pipeline with a UNet2DModel, as save_pretrained writes it.
        out: New file that ends in .safetensors, or new run directory, which needs data (default: nothing is written).
        data: Data on which the model was trained, or similar data. A run is measured on them; a file records their name.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        command: Command line for the record of a run.

    Returns:
        The model. `sample`, `evaluate` and `score_samples` work as for any other model.

    Raises:
        InputError: If the folder has no counterpart here (see `exchange.diffusers_import`), or `out` exists.
    """
    model, where = read_pipeline(folder), device_named(device)
    out = None if out is None else Path(out)
    if out is not None:
        check_new(out)
    pictures = None if data is None else options_for(data, model.facts.event_shape, ImageOptions())
    dataset = None if data is None else _opened(data, pictures, model)
    if dataset is not None:
        recipe = dataclasses.replace(
            model.facts.recipe, data=lasting(str(data)), pictures=pictures or model.facts.recipe.pictures
        )
        source = Source(dataset.name, "images", dataset.digest())
        model = dataclasses.replace(model, facts=dataclasses.replace(model.facts, recipe=recipe, data=source))
    if out is not None and out.suffix == SUFFIX:
        _write_file(model, out)
    elif out is not None:
        if dataset is None:
            raise InputError(f"a run needs data to be measured on: add --data PATH, or end --out in {SUFFIX}")
        words = ["kakusan", "import", str(folder), "--out", str(out), "--data", str(data)]
        _write_run(model, dataset, out, where, command or words)
    return of_file(model, where, Path(folder))


def _opened(data: str, pictures: ImageOptions | None, model: ExportedModel) -> Dataset:
    shape = model.facts.event_shape
    dataset = open_data(data, pictures, tell)
    if dataset.event_shape != shape:
        raise InputError(f"the model has examples of shape {shape}, and {dataset.name} has {dataset.event_shape}")
    return dataset


def _write_file(model: ExportedModel, out: Path) -> None:
    recipe = dataclasses.replace(model.facts.recipe, data=Path(model.facts.recipe.data).name)
    model = dataclasses.replace(model, facts=dataclasses.replace(model.facts, recipe=recipe))
    model.check(out)
    with files.writing(out):
        files.make_folders(out.parent)
        files.replace(out, model.to_bytes())


def _write_run(model: ExportedModel, dataset: Dataset, out: Path, device: torch.device, command: list[str]) -> None:
    """Write a run at step 0 with measurements and a report; kakusan train --resume fine-tunes it."""
    facts = model.facts
    module = with_weights(facts.recipe.model, facts.event_shape, model.weights)
    run = RunDirectory.create(out)
    try:
        run.write("data.json", data_record(dataset))
        record = {
            "recipe": facts.recipe.record(),
            "seed": 0,
            "device": str(device),
            "parameters": count_parameters(module),
            "command": command,
            "started": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
            "versions": versions(device),
            "job": "",
        }
        run.write("run.json", record)
        trainer = trainer_of(Job(run, facts.recipe, dataset, module, Budget(steps=1), 0, device))
        checkpoint.save(trainer, run.checkpoints, set())
        finish(run, facts.recipe, dataset, trainer)
    finally:
        run.unlock()
