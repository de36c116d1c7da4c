"""Samples of a trained model, written as one figure and one array."""

from __future__ import annotations

import itertools
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kakusan import distributed
from kakusan.console import tell
from kakusan.errors import InputError
from kakusan.run.directory import check_folder
from kakusan.run.labels import EACH, cond_of
from kakusan.run.memory import available_bytes
from kakusan.run.source import open_source
from kakusan.run.trained_model import TrainedModel, load
from kakusan.solvers import all_options, solver_named
from kakusan.solvers.evaluations import counted
from kakusan.storage import files
from kakusan.storage.arrays import csv_bytes, npy_bytes

MOST_SHOWN = 400  # largest number of images in samples.png
MOST_COLUMNS = 20  # largest number of classes with one column each in samples.png
GUESSED_BYTES = 16 * 1024 * files.MIB  # memory that is assumed if the system does not report it


@dataclass(frozen=True)
class Samples:
    """Samples and the files they were written to; on ranks other than 0, `files` is empty."""

    array: np.ndarray
    files: list[Path]
    network_evaluations: float  # network evaluations per sample


def sample(
    run: Path | str, n: int, *, out: Path | None = None, seed: int = 0, device: str = "auto", **choices: Any
) -> Samples:
    """Draw n samples and write OUT/samples.npy and, for images, OUT/samples.png.

    Args:
        run: Run directory or exported file.
        n: Number of samples.
        out: Folder without samples in it (default: samples/RUN-CHOICES-seedS-nN, with a number if that is taken).
        seed: Random seed; sample i depends on the seed and i alone.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        choices: `sampler` (a solver's name), options of solvers, and keyword arguments of `TrainedModel.sample`.
    """
    if n < 1:
        raise InputError(f"-n must be at least 1, got {n}")
    source = open_source(run)
    out = out or _unused(Path("samples") / _folder_name(source.name, n, seed, choices))
    _check_folder(out)
    model = load(run, device)
    _check_memory(model, n)
    sampling = model.sampling
    if model.classes and choices.get("label") is None:
        choices["label"] = EACH
    if warning := sampling.warning(choices.get("sampler"), choices.get("steps")):
        tell(warning)
    with counted(*sampling.denoisers) as evaluations:
        samples = model.sample(n, seed, **_arguments(model, choices))
    (total,) = distributed.all_reduce_sum([float(evaluations.total)])
    if not distributed.is_rank0():
        return Samples(samples, [], total / n)
    return Samples(samples, _write(model, samples, out, {"run": run, "n": n, "seed": seed, **choices}), total / n)


def _arguments(model: TrainedModel, choices: dict[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of `TrainedModel.sample`, with a solver built from its name and options."""
    options = {name: choices[name] for name in all_options() if choices.get(name) is not None}
    others = {name: value for name, value in choices.items() if name not in all_options() and name != "sampler"}
    name = choices.get("sampler")
    if name is None and not options:
        return others
    return {**others, "solver": solver_named(name or model.sampling.solver, **options)}


def _write(model: TrainedModel, samples: np.ndarray, out: Path, facts: dict[str, Any]) -> list[Path]:
    written = [out / "samples.npy"]
    with files.writing(out):
        files.make_folders(out)
        files.replace(written[0], npy_bytes(samples))
        if model.family.form.has_figure:
            known = {name: value for name, value in facts.items() if value is not None}
            columns = len(model.classes) if choices_each(model, facts) else None
            model.family.form.save_figure(samples[:MOST_SHOWN], out / "samples.png", known, columns)
            written.insert(0, out / "samples.png")
        names: list[str] = []
        if facts.get("label") is not None:
            cond = cond_of(model.classes, facts["label"], len(samples), facts.get("first") or 0).tolist()
            names = [model.classes[k] for k in cond]
        column = model.recipe.model.column_of_labels
        labels = (column, names) if column and names else None
        for name, more in model.family.form.files(samples, model.scale, labels).items():
            files.replace(out / name, more)
            written.insert(0, out / name)
        if names:
            files.replace(out / "labels.csv", csv_bytes([("name", "label"), *enumerate(names)]))
            written.append(out / "labels.csv")
    return written


def choices_each(model: TrainedModel, facts: dict[str, Any]) -> bool:
    """Return whether the figure has one column for each class."""
    return facts.get("label") == EACH and len(model.classes) <= MOST_COLUMNS


def _unused(out: Path) -> Path:
    """Return the folder, or the first numbered folder next to it without samples."""
    numbered = (out.with_name(f"{out.name}-{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([out], numbered) if not _held(path))


def _held(out: Path) -> list[Path]:
    return [
        path
        for name in ("samples.npy", "samples.png", "samples.csv", "labels.csv")
        if os.path.lexists(path := out / name)
    ]


def _check_folder(out: Path) -> None:
    """SaveError or InputError if samples cannot be written to this folder. A new folder is removed after the trial."""
    check_folder(out, "samples.png and samples.npy")
    for path in _held(out):
        raise InputError(f"{path} exists and is left unchanged; choose another --out")
    if distributed.is_rank0():
        created = [folder for folder in (out, *out.parents) if not folder.exists()]
        with files.writing(out):
            files.make_folders(out)
            draft = out / ".samples.npy.draft"  # an existing folder may not be writable
            files.write(draft, b"")
            files.remove(draft)
            for folder in created:
                if not any(folder.iterdir()):  # otherwise another process uses it
                    folder.rmdir()


def _check_memory(model: TrainedModel, n: int) -> None:
    """Raise InputError if the samples cannot be held in memory."""
    # three copies: samples, file content, working copy
    needed = n * math.prod(model.event_shape) * model.family.form.bytes_per_value * 3
    free = available_bytes() or GUESSED_BYTES
    if needed > free:
        raise InputError(
            f"-n {n:,} samples of {math.prod(model.event_shape):,} numbers need {needed / 2**30:,.1f} GiB of memory, and "
            f"{free / 2**30:,.1f} GiB are free; draw fewer at a time"
        )


def _folder_name(name: str, n: int, seed: int, choices: dict[str, Any]) -> str:
    """Return a folder name that differs for each request."""
    words = "".join(f"-{_plain(choices[key])}" for key in ("sampler", "spacing", "label") if choices.get(key))
    given = [(key, choices.get(key)) for key in ("steps", *all_options(), "guidance", "autoguidance", "end_log_snr")]
    numbers = "".join(f"-{key.replace('_', '-')}{value:g}" for key, value in given if value is not None)
    return f"{name}{words}{numbers}-seed{seed}-n{n}"


def _plain(text: str) -> str:
    """Return text that can be part of a folder's name."""
    return "".join(mark if mark.isalnum() or mark in "+-_." else "_" for mark in text)
