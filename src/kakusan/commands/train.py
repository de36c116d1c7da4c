"""kakusan train: from a recipe to a finished run directory."""

from __future__ import annotations

import dataclasses
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kakusan import sharing
from kakusan.commands.finish import finish, measure
from kakusan.commands.job import Job, keep_clock, reopened, trainer_of, wind_clock
from kakusan.commands.origin import check_origin, origin, versions
from kakusan.commands.say import tell
from kakusan.data.dataset import Dataset
from kakusan.data.open import lasting, open_data
from kakusan.errors import InputError, SaveError, Stopped
from kakusan.likelihood.evaluation import spread_words
from kakusan.recipes.build import build, check_kind, count_parameters
from kakusan.recipes.config import Recipe, from_record
from kakusan.rundir import RunDirectory
from kakusan.signals import EXIT_STATUS
from kakusan.train import checkpoint
from kakusan.train.device import device_named
from kakusan.train.engine import process_group
from kakusan.train.loop import Trainer
from kakusan.train.progress import ProgressLine
from kakusan.train.settings import Budget
from kakusan.train.state import State

MARKS = [0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0]


@dataclass(frozen=True)
class Start:
    """A new run."""

    recipe: Recipe
    out: Path
    seed: int
    device: str
    shard: bool = False


@dataclass(frozen=True)
class Resume:
    """How to go on with a run; what is not given stays as it was."""

    path: Path
    minutes: float | None = None
    steps: int | None = None
    device: str | None = None
    rollback: bool = False
    shard: bool = False


def start(wanted: Start, command: list[str]) -> int:
    """Train a new run; the exit status."""
    device = device_named(wanted.device)
    if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) and (wanted.out / "run.json").exists():
        return resume(Resume(wanted.out, device=wanted.device, shard=wanted.shard))  # after a process died
    with process_group(device):
        recipe = _with_groups(wanted.recipe)
        budget = Budget(recipe.minutes, recipe.steps)
        dataset = open_data(recipe.data, recipe.pictures, tell)
        recipe = dataclasses.replace(recipe, data=lasting(recipe.data))
        check_kind(recipe, dataset)
        torch.manual_seed(wanted.seed % 2**63)
        module = build(recipe.model, dataset.event_shape)  # bad settings show before anything is written
        record = {
            "recipe": recipe.record(),
            "seed": wanted.seed,
            "device": str(device),
            "parameters": count_parameters(module),
            "command": command,
            "started": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
            "versions": versions(device),
            "processes": sharing.world(),
        }
        run = sharing.by_first(lambda: RunDirectory.create(wanted.out)) or RunDirectory(wanted.out)
        try:
            sharing.by_first(lambda: _write_records(run, record, dataset))
            return _train(Job(run, recipe, dataset, module, budget, wanted.seed, device, wanted.shard), fresh=True)
        finally:
            run.unlock()


def _write_records(run: RunDirectory, record: dict[str, Any], dataset: Dataset) -> None:
    run.write("data.json", data_record(dataset))
    run.write("run.json", record)  # last: from here on there is a run to go on with


def resume(wanted: Resume) -> int:
    """Go on with a run where its newest whole checkpoint stands; the exit status.

    A larger budget may be given; that of the run is kept otherwise.
    """
    run = RunDirectory.open(wanted.path)
    record = run.read("run.json")
    device = device_named(wanted.device or record["device"].split(":")[0])
    with process_group(device):
        try:
            sharing.by_first(run.lock)
            return _go_on(run, run.read("run.json"), wanted, device)
        finally:
            run.unlock()


def _go_on(run: RunDirectory, record: dict[str, Any], wanted: Resume, device: torch.device) -> int:
    recipe = from_record(record["recipe"])
    longer = wanted.minutes is not None or wanted.steps is not None
    if longer:
        recipe = dataclasses.replace(recipe, minutes=wanted.minutes, steps=wanted.steps)
    job = reopened(run, {**record, "recipe": recipe.record()}, device, wanted.shard)
    if checkpoint.exists(run.checkpoints):
        state = checkpoint.read_state(run.checkpoints)
        if run.finished or longer:
            _check_budget(run.path, state, job.budget, run.finished)
        if wanted.rollback:
            job.rollbacks.append(state.step)
    elif wanted.rollback:
        job.rollbacks.append(0)
    if longer:
        typed = ["--minutes", f"{wanted.minutes:g}"] if wanted.minutes is not None else ["--steps", str(wanted.steps)]
        command = ["kakusan", "train", "--resume", str(run.path), *typed]
        record["resumed"] = [*record.get("resumed", []), command]
    if job.rollbacks:
        record["rollbacks"] = job.rollbacks
    sharing.by_first(lambda: run.write("run.json", {**record, "recipe": recipe.record()}))
    return _train(job, fresh=False, other_steps=longer or wanted.rollback)


def _with_groups(recipe: Recipe) -> Recipe:
    """As many groups as processes, unless the recipe says how many."""
    if recipe.optim.groups == 1 and sharing.world() > 1:
        batch = recipe.optim.batch + -recipe.optim.batch % sharing.world()
        return dataclasses.replace(recipe, optim=dataclasses.replace(recipe.optim, groups=sharing.world(), batch=batch))
    return recipe


def _check_budget(path: Path, state: State, budget: Budget, finished: bool) -> None:
    if budget.progress(state.step, state.seconds) >= 1:
        stands = f"{state.step:,} steps, {state.seconds / 60:.1f} minutes"
        larger = f"kakusan train --resume {path} --minutes {2 * max(1, round(state.seconds / 60))}"
        raise InputError(
            f"{path} is {'finished' if finished else 'already further than that'} ({stands}); a budget counts from the "
            f"run's beginning: name a larger one, e.g. {larger}"
        )


def _train(job: Job, fresh: bool, other_steps: bool = False) -> int:
    """Train, measure, save; `other_steps`: those after the checkpoint are not to be done as they were before."""
    try:
        stopped_by = _to_the_end(job, fresh, other_steps)
    except Stopped as stopped:
        stopped_by = stopped.number
    if not stopped_by:
        return 0
    tell(f"stopped; go on with: kakusan train --resume {job.run.path}")
    return EXIT_STATUS + stopped_by


def _to_the_end(job: Job, fresh: bool, other_steps: bool) -> int:
    """0, or the number of the signal that asked to stop."""
    run, recipe, dataset = job.run, job.recipe, job.dataset
    trainer = trainer_of(job)
    tell(dataset.describe())
    beginning = f"{recipe.name}: {count_parameters(job.module):,} parameters on {_place(job)}, {job.budget}"
    if not fresh:
        if checkpoint.exists(run.checkpoints):
            checkpoint.restore(trainer, run.checkpoints)
        if other_steps:
            trainer.state.marks = sum(mark <= trainer.progress for mark in MARKS)
        beginning = f"{recipe.name}: going on from step {trainer.state.step:,}, {job.budget}"
    made_by = origin(recipe, job.seed, dataset.digest(), job.device)
    for line in check_origin(run.path, trainer.state.made_by, made_by) if trainer.state.made_by else []:
        tell(f"from here on not to the bits of an unbroken run: {line}")
    trainer.state.made_by = made_by
    wind_clock(trainer, run, other_steps)
    journal = keep_clock(trainer, run)
    sharing.by_first(lambda: run.cut_history(trainer.state.step))
    if fresh:
        sharing.by_first(lambda: checkpoint.check_room(run.checkpoints, job.module))
    tell(f"{beginning}; writing {run.path}")
    failed: InputError | None = None  # of the last save

    with ProgressLine(trainer.settings.batch, "rows" if dataset.kind == "counts" else "images") as progress:

        def on_save(trainer: Trainer) -> None:
            nonlocal failed
            try:
                checkpoint.save(trainer, run.checkpoints)
                journal.catch_up(trainer.state.readings)
                failed = None
            except (SaveError, sharing.PeerFailed) as error:
                tell(f"{error}; training goes on, the next save tries again")
                failed = error

        def on_mark(trainer: Trainer) -> None:
            measured = sharing.is_first() and any(line["step"] == trainer.state.step for line in run.history())
            if sharing.told([float(measured)])[0]:
                return  # and the run was stopped right after
            try:
                line = measure(trainer, recipe, dataset, run)
                progress.measured = f"{line['bits_per_dim']:.3f} ± {spread_words(line['standard_error'])} bits/dim"
                if sharing.is_first():
                    run.append_history(line)
            except SaveError as error:
                tell(f"{error}; training goes on")

        finished = trainer.run(MARKS, on_mark, progress.update, on_save)
    if failed is not None:
        raise failed
    if finished:
        finish(run, recipe, dataset, trainer)
    return trainer.stopped_by


def _place(job: Job) -> str:
    if sharing.world() == 1:
        return str(job.device)
    return f"{sharing.world()} x {job.device.type}{', in parts' if job.shard else ''}"


def data_record(dataset: Dataset) -> dict[str, Any]:
    """What the data were."""
    return {
        "name": dataset.name,
        "kind": dataset.kind,
        "event_shape": list(dataset.event_shape),
        "train": len(dataset.train),
        "held_out": len(dataset.test),
        "split": dataset.source,
        "prepared": dataset.prepared,
        "skipped": dataset.skipped,
        "digest": dataset.digest(),
    }
