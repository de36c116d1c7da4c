"""kakusan train: from a recipe to a finished run directory."""

from __future__ import annotations

import dataclasses
import hashlib
import platform
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

import kakusan
from kakusan.commands.pictures import final_pictures, sample_grid
from kakusan.commands.say import tell
from kakusan.commands.summary import summarise_run
from kakusan.data.dataset import Dataset
from kakusan.data.open import lasting, open_data
from kakusan.errors import InputError
from kakusan.likelihood.evaluation import spread_words
from kakusan.model import TrainedModel
from kakusan.recipes.build import Trainable, build, check_kind, count_parameters, start_at, training_loss
from kakusan.recipes.config import Recipe, from_record
from kakusan.recipes.conjugate_fit import ConjugateFit
from kakusan.report.page import render
from kakusan.rundir import RunDirectory
from kakusan.train import checkpoint
from kakusan.train.device import device_named
from kakusan.train.loop import State, Trainer
from kakusan.train.progress import ProgressLine
from kakusan.train.settings import Budget

MARKS = [0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0]
MEASURED_IMAGES = 1000
SAVE_SECONDS = 60.0
INTERRUPTED = 130


@dataclasses.dataclass(frozen=True)
class Start:
    """A new run."""

    recipe: Recipe
    out: Path
    seed: int
    device: str


def start(wanted: Start, command: list[str]) -> int:
    """Train a new run; the exit status."""
    recipe = wanted.recipe
    budget = Budget(recipe.minutes, recipe.steps)
    device = device_named(wanted.device)
    dataset = open_data(recipe.data)
    recipe = dataclasses.replace(recipe, data=lasting(recipe.data))
    check_kind(recipe, dataset)
    torch.manual_seed(wanted.seed % 2**63)
    module = build(recipe.model, dataset.event_shape)  # bad settings show before anything is written
    run = RunDirectory.create(wanted.out)
    try:
        run.write(
            "run.json",
            {
                "recipe": recipe.record(),
                "seed": wanted.seed,
                "device": str(device),
                "parameters": count_parameters(module),
                "command": command,
                "started": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
                "versions": versions(),
            },
        )
        run.write("data.json", data_record(dataset))
        return _train(run, recipe, dataset, module, budget, wanted.seed, device, fresh=True)
    finally:
        run.unlock()


def resume(path: Path, minutes: float | None, steps: int | None, device_name: str | None) -> int:
    """Go on with a run where its newest checkpoint stands; the exit status.

    A larger budget may be given; that of the run is kept otherwise.
    """
    run = RunDirectory.open(path)
    run.lock()
    try:
        record = run.read("run.json")
        recipe = from_record(record["recipe"])
        longer = minutes is not None or steps is not None
        if longer:
            recipe = dataclasses.replace(recipe, minutes=minutes, steps=steps)
        budget = Budget(recipe.minutes, recipe.steps)
        device = device_named(device_name or record["device"])
        dataset = open_data(recipe.data)
        known = run.read("data.json")["digest"]
        if dataset.digest() != known:
            raise InputError(
                f"{recipe.data} has changed since {path} was started; give the run the data that it began with"
            )
        torch.manual_seed(record["seed"] % 2**63)
        module = build(recipe.model, dataset.event_shape)
        if checkpoint.exists(run.checkpoints) and (run.finished or longer):
            _check_budget(path, checkpoint.read_state(run.checkpoints), budget, run.finished)
        if longer:
            typed = ["--minutes", f"{minutes:g}"] if minutes is not None else ["--steps", str(steps)]
            resumed = [*record.get("resumed", []), ["kakusan", "train", "--resume", str(path), *typed]]
            record["resumed"] = resumed
        run.write("run.json", {**record, "recipe": recipe.record()})
        return _train(run, recipe, dataset, module, budget, record["seed"], device, fresh=False, new_budget=longer)
    finally:
        run.unlock()


def _check_budget(path: Path, state: State, budget: Budget, finished: bool) -> None:
    if budget.progress(state.step, state.seconds) >= 1:
        stands = f"{state.step:,} steps, {state.seconds / 60:.1f} minutes"
        larger = f"kakusan train --resume {path} --minutes {2 * max(1, round(state.seconds / 60))}"
        raise InputError(
            f"{path} is {'finished' if finished else 'already further than that'} ({stands}); a budget counts from the "
            f"run's beginning: name a larger one, e.g. {larger}"
        )


def _train(
    run: RunDirectory,
    recipe: Recipe,
    dataset: Dataset,
    module: Trainable,
    budget: Budget,
    seed: int,
    device: torch.device,
    fresh: bool,
    new_budget: bool = False,
) -> int:
    data = dataset.train.to(device)
    module = module.to(device)
    start_at(module, data)
    settings = dataclasses.replace(recipe.optim, batch=min(recipe.optim.batch, len(data)))
    trainer = Trainer(module, training_loss(module, recipe.model, data), len(data), settings, budget, seed, device)
    tell(dataset.describe())
    if fresh:
        tell(f"{recipe.name}: {count_parameters(module):,} parameters on {device}, {budget}; writing {run.path}")
    else:
        if checkpoint.exists(run.checkpoints):
            checkpoint.restore(trainer, run.checkpoints)
        if new_budget:
            trainer.state.marks = sum(mark <= trainer.progress for mark in MARKS)
        run.cut_history(trainer.state.step)
        tell(f"{recipe.name}: going on from step {trainer.state.step:,}, {budget}; writing {run.path}")
    unit = "rows" if dataset.kind == "counts" else "images"
    saved_at = time.monotonic()

    with ProgressLine(settings.batch, unit) as progress:

        def on_mark(trainer: Trainer) -> None:
            trainer.check_finite()
            line = measure(trainer, recipe, dataset, run)
            run.append_history(line)
            progress.measured = f"{line['bits_per_dim']:.3f} ± {spread_words(line['standard_error'])} bits/dim"
            checkpoint.save(trainer, run.checkpoints)

        def on_step(trainer: Trainer) -> None:
            nonlocal saved_at
            progress.update(trainer)
            if time.monotonic() - saved_at > SAVE_SECONDS:
                checkpoint.save(trainer, run.checkpoints)
                saved_at = time.monotonic()

        finished = trainer.run(MARKS, on_mark, on_step)
    if not finished:
        checkpoint.save(trainer, run.checkpoints)
        tell(f"stopped at step {trainer.state.step:,}; go on with: kakusan train --resume {run.path}")
        return INTERRUPTED
    finish(run, recipe, dataset, trainer)
    return 0


def measure(trainer: Trainer, recipe: Recipe, dataset: Dataset, run: RunDirectory) -> dict[str, Any]:
    """The held-out bound and a sheet of samples, always with the same noise."""
    model = averaged_model(trainer, recipe, dataset)
    rate = trainer.state.images(trainer.settings.batch) / max(trainer.state.seconds, 1e-9)
    result = model.evaluate(dataset.test[:MEASURED_IMAGES])
    if dataset.kind == "images":
        sample_grid(model, run.samples / f"step-{trainer.state.step:08d}.png")
    return {
        "step": trainer.state.step,
        "seconds": round(trainer.state.seconds, 2),
        "examples": trainer.state.images(trainer.settings.batch),
        "examples_per_second": round(rate, 1),
        "loss": None if trainer.recent_loss is None else round(trainer.recent_loss.item(), 6),
        "bits_per_dim": result.bits_per_dim,
        "standard_error": result.standard_error,
        "terms": result.terms,
    }


def averaged_model(trainer: Trainer, recipe: Recipe, dataset: Dataset) -> TrainedModel:
    """The model with the weights that it is used with."""
    module = cast(Trainable, trainer.ema.module)
    return TrainedModel(recipe, module, dataset.event_shape, trainer.device, trainer.early)


def finish(run: RunDirectory, recipe: Recipe, dataset: Dataset, trainer: Trainer) -> None:
    """Measure on the whole held-out part, draw the pictures, write the summary and the report."""
    model = averaged_model(trainer, recipe, dataset)
    if dataset.kind == "images":
        final_pictures(model, dataset, run.path)
    summary = summarise_run(model, dataset)
    summary |= {
        "steps": trainer.state.step,
        "seconds": round(trainer.state.seconds, 1),
        "examples": trainer.state.images(trainer.settings.batch),
        "weights_sha256": weights_digest(trainer.ema.module),
    }
    if isinstance(trainer.module, ConjugateFit):
        distance = trainer.module.distance_to_exact(dataset.train.to(trainer.device))
        summary["largest_relative_distance_to_exact_posterior"] = distance
        summary["lines"].append(f"gradient ascent ended at gamma = (x + alpha)(1 ± {distance:.1e})")
    run.report.write_text(render(run, summary), encoding="utf-8")
    run.write("summary.json", summary)  # last: it says that the run is finished
    conclude(run)


def conclude(run: RunDirectory) -> None:
    """The numbers of a finished run and where to look, on stdout."""
    summary = run.read("summary.json")
    print(*summary["lines"], sep="\n")
    print(f"weights {summary['weights_sha256']}")
    print(f"\nlook at   {run.report}\nthen try  kakusan sample {run.path} -n 100")


def weights_digest(module: nn.Module) -> str:
    """SHA-256 over the weights by name: two runs with the same digest are the same model."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def data_record(dataset: Dataset) -> dict[str, Any]:
    """What the data were."""
    return {
        "name": dataset.name,
        "kind": dataset.kind,
        "event_shape": list(dataset.event_shape),
        "train": len(dataset.train),
        "held_out": len(dataset.test),
        "split": dataset.source,
        "digest": dataset.digest(),
    }


def versions() -> dict[str, str]:
    """What the run stands on."""
    return {
        "kakusan": kakusan.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "threads": str(torch.get_num_threads()),
        "machine": f"{platform.system()} {platform.machine()}",
    }
