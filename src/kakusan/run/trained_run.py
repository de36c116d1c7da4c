"""Runs in Python: `kakusan.train` and `kakusan.Run`."""

from __future__ import annotations

import dataclasses
import functools
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kakusan.console import command, quiet
from kakusan.data.options import size_named
from kakusan.errors import InputError
from kakusan.progress import showing_progress
from kakusan.registry import did_you_mean
from kakusan.run.directory import RunDirectory, path_of_run
from kakusan.run.recipe import RECIPES, Recipe, recipe_of
from kakusan.settings import seed_of

if TYPE_CHECKING:
    from kakusan.run.trained_model import TrainedModel

FLAGS = {"pictures.bad": "bad-images"}  # settings whose flags have other names
ARGUMENTS = ("data", "steps", "minutes", "out", "seed", "device", "teacher", "init", "resume")  # of `train` itself
PARTS = ("model", "optim", "pictures", "distil")  # sections of a recipe whose settings may be given


class Run:
    """A run directory on disk.

    Attributes:
        path: The directory.
    """

    def __init__(self, path: Path | str):
        self.path = path_of_run(path)
        self._directory = RunDirectory.open(self.path)

    @functools.cached_property
    def model(self) -> TrainedModel:
        """The trained model, with the averaged weights of the newest checkpoint."""
        from kakusan.run.trained_model import load

        return load(self.path)

    @property
    def recipe(self) -> Recipe:
        """Settings of the run."""
        return recipe_of(self.path, self._directory.read("run.json"))

    @property
    def history(self) -> list[dict[str, Any]]:
        """Measurements during training, oldest first: step, seconds, examples, loss, bits_per_dim and more."""
        return self._directory.history()

    @property
    def finished(self) -> bool:
        """True if the budget is used up and everything is measured."""
        return self._directory.finished

    @property
    def summary(self) -> dict[str, Any]:
        """Numbers of a finished run, e.g. summary["likelihood"]["bits_per_dim"]; empty before that."""
        return self._directory.read("summary.json") if self.finished else {}

    @property
    def report(self) -> Path:
        """Path of report.html, written when training ends."""
        return self._directory.report

    def resume(
        self,
        *,
        minutes: float | None = None,
        steps: int | None = None,
        data: Path | str | None = None,
        device: str | None = None,
    ) -> Run:
        """Resume training.

        Args:
            minutes: New budget, counted from the run's beginning (default: the run's own).
            steps: New budget in steps, instead of minutes.
            data: New path of the same data, if they have moved.
            device: "cpu", "cuda", "cuda:N" or "mps" (default: the device type on which the run was started).

        Returns:
            The run with its new model.
        """
        from kakusan.run.train import Resume, resume

        with quiet(), showing_progress():
            resume(Resume(self.path, minutes, steps, device, data=None if data is None else str(data)))
        return Run(self.path)

    def __repr__(self) -> str:
        state = "finished" if self.finished else "not finished"
        return f"Run({str(self.path)!r}, {self.recipe.name}, {state})"


def train(
    recipe: str | Recipe | None = None,
    *,
    data: Path | str | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    out: Path | str | None = None,
    seed: int = 0,
    device: str = "auto",
    teacher: Path | str | None = None,
    init: Path | str | None = None,
    resume: Path | str | None = None,
    **settings: Any,
) -> Run:
    """Train a recipe as `kakusan train` does, with one progress line on stderr.

    Settings have the names that `kakusan train RECIPE --help` shows, with "_" for "-". They are given nested,
    `model={"width": 32}`; with a dot, `**{"model.width": 32}`; or alone, `width=32`, where the name is unique.
    Ctrl-C stops after the current step and saves; the unfinished run is returned.

    Args:
        recipe: Name of a recipe, or a `Recipe`.
        data: Data to train on (default: the recipe's).
        steps: Budget in steps (default: the recipe's).
        minutes: Budget in minutes, instead of steps.
        out: Run directory, which must not exist (default: runs/RECIPE-DATE-TIME).
        seed: Random seed, a whole number of at least 0.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        teacher: Run or exported file of a student's teacher.
        init: Run or exported file from whose weights and model settings the new run starts.
        resume: A run to resume, instead of a recipe.
        settings: Settings of the recipe.

    Returns:
        The run; `run.model` samples and evaluates.
    """
    from kakusan.run.train import Start, start

    seed = seed_of(seed)  # before anything is written
    if resume is not None:
        if recipe is not None or settings or out is not None or teacher is not None or init is not None:
            raise InputError(
                "a run keeps its recipe, settings, teacher and directory: give train a recipe, or resume=RUN"
            )
        where = None if device == "auto" else device
        return Run(resume).resume(minutes=minutes, steps=steps, data=data, device=where)
    if recipe is None:
        raise InputError("train needs a recipe, e.g. train('mnist-ddpm'), or resume=RUN")
    if minutes is not None and steps is not None:
        raise InputError("give minutes or steps, not both")
    named = RECIPES[recipe] if isinstance(recipe, str) else recipe
    chosen = _chosen(named, settings, data, steps, minutes)
    path = default_out(chosen.name) if out is None else Path(out)
    words = typed_words(named, settings, data=data, steps=steps, minutes=minutes, teacher=teacher, init=init, seed=seed)
    first, weights = (None if each is None else Path(each) for each in (teacher, init))
    wanted = Start(chosen, path, seed, device, first, None if data is None else str(data), weights)
    with quiet(), showing_progress():
        start(wanted, [*words, "--out", str(path)])
    return Run(path)


def _chosen(
    recipe: Recipe, settings: Mapping[str, Any], data: Path | str | None, steps: int | None, minutes: float | None
) -> Recipe:
    """Return the recipe with the given settings, data and budget."""
    if data is not None and not isinstance(data, str | os.PathLike):
        raise InputError(
            f"data must be a path or a name, got {type(data).__name__}; save it, numpy.save('data.npy', x), and pass "
            "data='data.npy'; or train a model of your own on it with kakusan.fit"
        )
    chosen = with_settings(recipe, settings)
    if minutes is not None or steps is not None:
        chosen = dataclasses.replace(chosen, minutes=minutes, steps=steps)
    return chosen if data is None else dataclasses.replace(chosen, data=str(data))


def default_out(name: str) -> Path:
    """Return a new run directory in runs/, named after the recipe and the time."""
    wanted = Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    number, path = 1, wanted
    while path.exists():
        number += 1
        path = wanted.with_name(f"{wanted.name}-{number}")
    return path


def with_settings(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """Return a recipe with other settings, named as in `train`; InputError for an unknown or ambiguous name."""
    changes: dict[str, dict[str, Any]] = {}
    for part, name, value in _resolved(recipe, settings):
        if (part, name) == ("pictures", "size") and value is not None:
            value = size_named("x".join(map(str, value)) if isinstance(value, tuple | list) else str(value))
        changes.setdefault(part, {})[name] = tuple(value) if isinstance(value, list) else value
    parts = {part: dataclasses.replace(getattr(recipe, part), **values) for part, values in changes.items()}
    return dataclasses.replace(recipe, **parts)


def _resolved(recipe: Recipe, settings: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    """Return (section, name, value) of each setting."""
    fields = {
        part: [field.name for field in dataclasses.fields(getattr(recipe, part))]
        for part in PARTS
        if getattr(recipe, part) is not None
    }
    known = {f"{part}.{name}": (part, name) for part, names in fields.items() for name in names}
    alone: dict[str, list[tuple[str, str]]] = {}
    for part, name in known.values():
        alone.setdefault(name, []).append((part, name))
    for place, flag in FLAGS.items():
        if place in known:
            part, shown = place.partition(".")[0], flag.replace("-", "_")
            known[f"{part}.{shown}"] = known[place]
            alone[shown] = [known[place]]
    found = []
    for given, value in settings.items():
        if given in fields and isinstance(value, Mapping):
            found += [(f"{given}.{name}", inner) for name, inner in value.items()]
        else:
            found.append((given, value))
    resolved = []
    for given, value in found:
        homes = [known[given]] if given in known else alone.get(given, [])
        if not homes:
            hint = did_you_mean(given, [*alone, *known, *ARGUMENTS])
            all_of_them = command("train", recipe.name, "--help")
            raise InputError(f"recipe {recipe.name} has no setting {given!r}; {hint}{all_of_them} lists all")
        if len(homes) > 1:
            choices = " or ".join(f"{part}={{{name!r}: ...}}" for part, name in homes)
            raise InputError(f"{given!r} is a setting of several sections; give {choices}")
        resolved.append((*homes[0], value))
    return resolved


def typed_words(recipe: Recipe, settings: Mapping[str, Any], **flags: Any) -> list[str]:
    """Return the command line that trains the same run."""
    pairs = [*flags.items()]
    for part, name, value in _resolved(recipe, settings):
        pairs.append((FLAGS.get(f"{part}.{name}", name) if part == "pictures" else f"{part}.{name}", value))
    words = ["kakusan", "train", recipe.name]
    for name, value in pairs:
        if value is not None:
            values = value if isinstance(value, tuple | list) else [value]
            words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return words
