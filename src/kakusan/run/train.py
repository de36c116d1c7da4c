"""kakusan train: from a recipe to a finished run directory."""

from __future__ import annotations

import dataclasses
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kakusan import distributed
from kakusan.cli.arguments import Resume
from kakusan.console import tell
from kakusan.data.dataset import Dataset
from kakusan.data.open import lasting, open_data
from kakusan.errors import InputError, PeerFailed, SaveError, Stopped
from kakusan.run.build import check_kind, count_parameters
from kakusan.run.cautions import cautions, cluster_lines
from kakusan.run.directory import RunDirectory, to_go_on
from kakusan.run.families.diffusion import DiffusionConfig
from kakusan.run.fingerprint import check_origin, origin, versions
from kakusan.run.finish import averaged_model, draw, finish, measure, measured_words
from kakusan.run.job import Job, reopened, trainer_of, untrained
from kakusan.run.model_file import Artefact
from kakusan.run.recipe import Recipe, from_record
from kakusan.run.teacher import keep_teacher, read_teacher, student_of
from kakusan.signals import EXIT_STATUS
from kakusan.train import checkpoint
from kakusan.train.device import device_named
from kakusan.train.engine import Engine, losses_named, process_group
from kakusan.train.flops import effort_of
from kakusan.train.lanes import allows_lanes
from kakusan.train.loop import Trainer
from kakusan.train.precision import check_computing
from kakusan.train.progress import ProgressLine
from kakusan.train.settings import Budget
from kakusan.train.state import State

LANES = 2  # of a small network: each has half of the cores
MARKS = [0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0]


@dataclass(frozen=True)
class Start:
    """A new run."""

    recipe: Recipe
    out: Path
    seed: int
    device: str
    teacher: Path | None = None
    """Of a student: a run or an exported file."""
    data: str | None = None
    """Of a student: other data than its teacher's."""


def start(wanted: Start, command: list[str]) -> int:
    """Train a new run; the exit status. After a process of this very job has died, go on with the run that it began."""
    device = device_named(wanted.device)
    with process_group(device):
        out = Path(
            distributed.all_gather_bytes(str(wanted.out).encode())[0].decode()
        )  # a default name has the time in it
        if distributed.broadcast([float(_is_of_this_job(out))])[0]:
            return _resume(Resume(resume=out), device)
        recipe, teacher = wanted.recipe, None
        if recipe.distil is not None:
            teacher, its_recipe = read_teacher(wanted.teacher)
            data = wanted.data or its_recipe.data
            recipe = dataclasses.replace(student_of(recipe, teacher), data=data, pictures=its_recipe.pictures)
        budget = Budget(recipe.minutes, recipe.steps)
        dataset = open_data(recipe.data, recipe.pictures, tell)
        recipe = _with_groups(dataclasses.replace(recipe, data=lasting(recipe.data)), device, len(dataset.train))
        check_kind(recipe, dataset)
        torch.manual_seed(wanted.seed % 2**63)
        if teacher is not None and teacher.facts.event_shape != dataset.event_shape:
            raise InputError(
                f"the teacher makes examples of shape {teacher.facts.event_shape}, and {dataset.name} has "
                f"{dataset.event_shape}; give --data with that shape"
            )
        module = untrained(recipe, dataset.event_shape, teacher)  # bad settings show before anything is written
        check_computing(module, recipe.optim, device)
        record = {
            "recipe": recipe.record(),
            "seed": wanted.seed,
            "device": str(device),
            "parameters": count_parameters(module),
            "command": command,
            "started": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
            "versions": versions(device),
            "job": _job_id(),
        }
        run = distributed.on_rank0(lambda: RunDirectory.create(out)) or RunDirectory(out)
        try:
            distributed.on_rank0(lambda: _write_records(run, record, dataset, teacher))
            job = Job(run, recipe, dataset, module, budget, wanted.seed, device, teacher)
            return _train(job, fresh=True)
        finally:
            run.unlock()


def _job_id() -> str:
    """What the launcher calls this job, all its attempts alike; nothing if it gave no name of its own."""
    given = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return "" if given == "none" else given


def _is_of_this_job(path: Path) -> bool:
    run = RunDirectory(path)
    return bool(_job_id()) and (path / "run.json").is_file() and run.read("run.json").get("job") == _job_id()


def _write_records(run: RunDirectory, record: dict[str, Any], dataset: Dataset, teacher: Artefact | None) -> None:
    if teacher is not None:
        record = {**record, **keep_teacher(run, teacher)}
    run.write("data.json", data_record(dataset))
    run.write("run.json", record)  # last: from here on there is a run to go on with


def resume(wanted: Resume) -> int:
    """Go on with a run where its newest whole checkpoint stands; the exit status.

    A larger budget may be given; that of the run is kept otherwise.
    """
    record = RunDirectory.open(wanted.resume).read("run.json")
    device = device_named(wanted.device or str(record["device"]).split(":")[0])
    with process_group(device):
        if _is_of_this_job(wanted.resume):  # an attempt before this one has changed the record already
            wanted = Resume(resume=wanted.resume)
        return _resume(wanted, device)


def _resume(wanted: Resume, device: torch.device) -> int:
    run = RunDirectory.open(wanted.resume)
    try:
        distributed.on_rank0(run.lock)
        return _go_on(run, run.read("run.json"), wanted, device)
    finally:
        run.unlock()


def _go_on(run: RunDirectory, record: dict[str, Any], wanted: Resume, device: torch.device) -> int:
    recipe = from_record(record["recipe"])
    before = {"minutes": recipe.minutes, "steps": recipe.steps}
    longer = wanted.minutes is not None or wanted.steps is not None
    if longer:
        recipe = dataclasses.replace(recipe, minutes=wanted.minutes, steps=wanted.steps)
    job = reopened(run, {**record, "recipe": recipe.record()}, device)
    newest = checkpoint.latest(run.checkpoints) if checkpoint.exists(run.checkpoints) else None
    state = checkpoint.state_of(newest) if newest else State()
    if run.finished or longer:
        _check_budget(run.path, state, job.budget, run.finished)
    if longer:
        typed = ["--minutes", f"{wanted.minutes:g}"] if wanted.minutes is not None else ["--steps", str(wanted.steps)]
        command = ["kakusan", "train", "--resume", str(run.path), *typed]
        record["resumed"] = [*record.get("resumed", []), command]
        record["budgets_before"] = [*record.get("budgets_before", []), {"until": state.step, **before}]
    if wanted.rollback:
        job.rollbacks.append(state.step)
        record["rollbacks"] = job.rollbacks
    record["job"] = _job_id()

    def write() -> None:
        if newest:
            checkpoint.set_newer_aside(newest)
        run.reopen()  # a run with a larger budget is not finished
        run.write("run.json", {**record, "recipe": recipe.record()})

    distributed.barrier()  # all have looked
    distributed.on_rank0(write)
    return _train(job, fresh=False, newest=newest)


def _with_groups(recipe: Recipe, device: torch.device, num_examples: int) -> Recipe:
    """As many groups of a batch as can be taken side by side, unless the recipe says how many."""
    optim = recipe.optim
    if optim.groups is not None:
        Engine(optim.groups)  # InputError where the processes cannot share them
        return recipe
    groups = distributed.world_size()
    over = optim.batch % groups
    if over:
        near = optim.batch - over
        raise InputError(
            f"{groups} processes cannot share a batch of {optim.batch} alike; add --optim.batch {near or groups} or "
            f"{near + groups}"
        )
    if groups == 1 and num_examples >= LANES and _gains_by_lanes(recipe, device):
        groups = LANES
    return dataclasses.replace(recipe, optim=dataclasses.replace(optim, groups=groups))


def _gains_by_lanes(recipe: Recipe, device: torch.device) -> bool:
    optim = recipe.optim
    many = optim.batch % LANES == 0 and torch.get_num_threads() >= LANES
    return allows_lanes(optim, device) and many and isinstance(recipe.model, DiffusionConfig)


def _check_budget(path: Path, state: State, budget: Budget, finished: bool) -> None:
    if budget.progress(state.step, state.seconds) >= 1:
        stands = f"{state.step:,} steps, {state.seconds / 60:.1f} minutes"
        twice = f"--steps {2 * state.step}" if budget.steps else f"--minutes {2 * max(1, round(state.seconds / 60))}"
        larger = f"{to_go_on(path)} {twice}"
        raise InputError(
            f"{path} is {'finished' if finished else 'already further than that'} ({stands}); a budget counts from the "
            f"run's beginning: name a larger one, e.g. {larger}"
        )


def _train(job: Job, fresh: bool, newest: Path | None = None) -> int:
    """Train, measure, save.

    Args:
        job: What to do.
        fresh: Whether the run is a new one.
        newest: A whole checkpoint to go on from, if the run has one.
    """
    try:
        with losses_named():
            stopped_by = _to_the_end(job, fresh, newest)
    except Stopped as stopped:
        stopped_by = stopped.number
    if not stopped_by:
        return 0
    tell(f"stopped; go on with: {to_go_on(job.run.path)}")
    return EXIT_STATUS + stopped_by


def _to_the_end(job: Job, fresh: bool, newest: Path | None) -> int:
    """0, or the number of the signal that asked to stop."""
    run, recipe, dataset = job.run, job.recipe, job.dataset
    trainer = trainer_of(job)
    clusters = getattr(job.module, "clusters", None)
    for line in [dataset.describe(), *([*cautions(dataset), *cluster_lines(clusters)] if fresh else [])]:
        tell(line)
    beginning = f"{recipe.name}: {count_parameters(job.module):,} parameters on {_place(job)}, {job.budget}"
    if not fresh:
        if newest:
            checkpoint.take_up(trainer, newest)
        passed = sum(mark <= trainer.progress for mark in MARKS)
        trainer.state.marks = min(trainer.state.marks, passed)  # of a larger budget fewer have passed
        beginning = f"{recipe.name}: going on from step {trainer.state.step:,}, {job.budget}"
    made_by = origin(recipe, job.seed, dataset.digest(), job.device, distributed.world_size(), trainer.num_lanes)
    for line in check_origin(run.path, trainer.state.made_by, made_by) if trainer.state.made_by else []:
        tell(f"from here on not to the bits of an unbroken run: {line}")
    trainer.state.made_by = made_by
    distributed.on_rank0(lambda: run.cut_history(trainer.state.step))
    if fresh:
        distributed.on_rank0(lambda: checkpoint.check_room(run.checkpoints, job.module))
    tell(f"{beginning}; writing {run.path}")
    failed: InputError | None = None  # of the last save

    with ProgressLine(trainer.settings.batch, "rows" if dataset.kind == "counts" else "images") as progress:
        if getattr(recipe.model, "objective", None) != "path":  # all T calls would be made to count them
            progress.effort = effort_of(trainer)

        whole = {newest} if newest else set()  # checkpoints

        def on_save(trainer: Trainer) -> None:
            nonlocal failed
            try:
                whole.add(checkpoint.save(trainer, run.checkpoints, whole))
                failed = None
            except (SaveError, PeerFailed) as error:
                tell(f"{error}; training goes on, the next save tries again")
                failed = error

        def on_mark(trainer: Trainer) -> None:
            measured = distributed.is_rank0() and any(line["step"] == trainer.state.step for line in run.history())
            if distributed.broadcast([float(measured)])[0]:
                return  # and the run was stopped right after
            try:
                model = averaged_model(trainer, recipe, dataset)
                line = measure(model, trainer, dataset)
                progress.measured = measured_words(line)
                if progress.effort.flops:
                    line["gflops_per_second"] = float(
                        f"{progress.effort.flops * line['examples_per_second'] / 1e9:.4g}"
                    )
                if distributed.is_rank0():
                    run.append_history(line)
                draw(model, trainer, dataset, run)
            except PeerFailed:
                raise
            except InputError as error:  # of the disk, or of samples that are no numbers yet
                tell(f"{error}; training goes on")

        finished = trainer.run(MARKS, on_mark, progress.update, on_save)
    if failed is not None:
        raise failed
    if finished:
        finish(run, recipe, dataset, trainer)
    return trainer.stopped_by


def _place(job: Job) -> str:
    if distributed.world_size() == 1:
        return str(job.device)
    return f"{distributed.world_size()} x {job.device.type}"


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
