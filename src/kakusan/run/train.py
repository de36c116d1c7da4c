"""Training of a recipe in a run directory, and resuming: the work of `kakusan train` and `kakusan.train`."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kakusan import distributed
from kakusan.console import tell
from kakusan.data.dataset import Dataset
from kakusan.data.open import lasting, lasting_labels
from kakusan.errors import InputError, PeerFailed, Stopped
from kakusan.run.build import check_kind, count_parameters, family_of
from kakusan.run.directory import RunDirectory, resume_command
from kakusan.run.families.conditional import label_lines
from kakusan.run.fingerprint import versions
from kakusan.run.initial import fine_tuned, keep_initial, read_initial
from kakusan.run.job import Job, reopened, untrained
from kakusan.run.model_file import ExportedModel
from kakusan.run.own_data import check_images, open_for, planned
from kakusan.run.recipe import RECIPES, Recipe, recipe_of, without_label_path
from kakusan.run.session import Session
from kakusan.run.teacher import keep_teacher, read_teacher, student_of
from kakusan.training import checkpoint
from kakusan.training.device import device_named
from kakusan.training.engine import Engine, process_group
from kakusan.training.precision import check_computing
from kakusan.training.settings import Budget
from kakusan.training.state import State
from kakusan.training.threads import allows_threads

PARALLEL = 2  # micro-batches in parallel for a small network; each has half of the cores


@dataclass(frozen=True)
class Start:
    """Request for a new run."""

    recipe: Recipe
    out: Path
    seed: int = 0
    device: str = "auto"
    teacher: Path | None = None  # run or exported file of a student's teacher
    data: str | None = None  # a student's data (default: its teacher's)
    init: Path | None = None  # run or exported file from whose weights the run starts


@dataclass(frozen=True)
class Resume:
    """Request to resume a run, possibly with a larger budget, which counts from the run's beginning."""

    run: Path
    minutes: float | None = None
    steps: int | None = None
    device: str | None = None
    rollback: bool = False  # whether to use other noise and another order of the data
    data: str | None = None  # new path of the same data


@dataclass(frozen=True)
class Outcome:
    """Outcome of a session: `stopped_by` is the number of the signal that stopped it, 0 if the run is finished."""

    run: RunDirectory
    stopped_by: int
    is_rank0: bool  # stored here, because the process group has ended by now


def start(wanted: Start, command: list[str]) -> Outcome:
    """Train a new run. After a restart of the same job, resume the run that the job started.

    Args:
        wanted: The run.
        command: Command line to record in run.json.
    """
    device = device_named(wanted.device)
    with process_group(device):
        # a default name contains the time, so all ranks use that of rank 0
        out = Path(distributed.all_gather_bytes(str(wanted.out).encode())[0].decode())
        if distributed.broadcast([float(_is_of_this_job(out))])[0]:
            return _resume(Resume(out), device)
        initial = None if wanted.init is None else read_initial(wanted.init, wanted.recipe)
        if initial is not None:
            wanted = dataclasses.replace(wanted, recipe=fine_tuned(wanted.recipe, initial))
        teacher, dataset, recipe = _prepared(wanted, device)
        if initial is not None and initial.facts.event_shape != dataset.event_shape:
            raise InputError(
                f"the model of --init is of examples of shape {initial.facts.event_shape}, and {dataset.name} has "
                f"{dataset.event_shape}; give --data with that shape"
            )
        torch.manual_seed(wanted.seed % 2**63)
        module = untrained(recipe, dataset.event_shape, teacher)  # settings are checked before anything is written
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
            if initial is not None:
                distributed.on_rank0(lambda: keep_initial(run, initial))
            distributed.on_rank0(lambda: _write_records(run, record, dataset, teacher))
            budget = Budget(recipe.minutes, recipe.steps)
            job = Job(run, recipe, dataset, module, budget, wanted.seed, device, teacher, initial=initial)
            return _train(job, None, fresh=True)
        finally:
            run.unlock()


def _prepared(wanted: Start, device: torch.device) -> tuple[ExportedModel | None, Dataset, Recipe]:
    """Return teacher, data and complete recipe of a new run."""
    recipe, teacher = wanted.recipe, None
    if recipe.distil is not None:
        teacher, its_recipe = read_teacher(wanted.teacher)
        data = wanted.data or its_recipe.data
        recipe = dataclasses.replace(
            student_of(recipe, teacher), data=data, pictures=without_label_path(its_recipe).pictures
        )
    Budget(recipe.minutes, recipe.steps)  # raises InputError before the data are read, which may take long
    check_images(recipe)
    dataset = open_for(wanted.out, recipe.data, recipe.pictures)
    own_data = recipe.name not in RECIPES or recipe.data != RECIPES[recipe.name].data
    recipe = dataclasses.replace(recipe, model=family_of(recipe.model).for_data(recipe.model, dataset, own_data))
    if teacher is None:
        recipe = dataclasses.replace(recipe, model=recipe.model.for_labels(dataset))
        for line in label_lines(recipe.model, dataset, own_data):
            tell(line)
    pictures = recipe.pictures
    if not dataset.label_column:
        pictures = dataclasses.replace(pictures, labels=lasting_labels(pictures.labels))
    recipe = dataclasses.replace(recipe, data=lasting(recipe.data), pictures=pictures)
    recipe = with_groups(recipe, device, len(dataset.train))
    check_kind(recipe, dataset)
    recipe = planned(recipe, dataset)
    if teacher is not None and teacher.facts.event_shape != dataset.event_shape:
        raise InputError(
            f"the teacher draws examples of shape {teacher.facts.event_shape}, and {dataset.name} has "
            f"{dataset.event_shape}; give --data with that shape"
        )
    return teacher, dataset, recipe


def _job_id() -> str:
    """Return the launcher's job id, which is the same in all attempts; empty without a launcher."""
    given = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return "" if given == "none" else given


def _is_of_this_job(path: Path) -> bool:
    run = RunDirectory(path)
    return bool(_job_id()) and (path / "run.json").is_file() and run.read("run.json").get("job") == _job_id()


def _write_records(run: RunDirectory, record: dict[str, Any], dataset: Dataset, teacher: ExportedModel | None) -> None:
    if teacher is not None:
        record = {**record, **keep_teacher(run, teacher)}
    run.write("data.json", data_record(dataset))
    run.write("run.json", record)  # written last: from here on the run can be resumed


def data_record(dataset: Dataset) -> dict[str, Any]:
    """Return the content of a run's data.json."""
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


def resume(wanted: Resume) -> Outcome:
    """Resume a run from its newest intact checkpoint."""
    record = RunDirectory.open(wanted.run).read("run.json")
    device = device_named(wanted.device or record["device"].split(":")[0])
    with process_group(device):
        if _is_of_this_job(wanted.run):  # an earlier attempt has already changed the record
            wanted = Resume(wanted.run)
        return _resume(wanted, device)


def _resume(wanted: Resume, device: torch.device) -> Outcome:
    run = RunDirectory.open(wanted.run)
    try:
        distributed.on_rank0(run.lock)
        newest = checkpoint.latest(run.checkpoints) if checkpoint.exists(run.checkpoints) else None
        state = checkpoint.state_of(newest) if newest else State()
        record = _changed_record(run.read("run.json"), wanted, state)
        job = reopened(run, record, device)
        if run.finished or _has_budget(wanted):
            _check_budget(run, state, job.budget)

        def write() -> None:
            if newest:
                checkpoint.rename_newer(newest)
            run.reopen()  # a run with a larger budget is not finished
            run.write("run.json", record)

        distributed.barrier()  # all ranks have read the records
        distributed.on_rank0(write)
        return _train(job, newest, fresh=False)
    finally:
        run.unlock()


def _has_budget(wanted: Resume) -> bool:
    return wanted.minutes is not None or wanted.steps is not None


def _changed_record(record: dict[str, Any], wanted: Resume, state: State) -> dict[str, Any]:
    """Return the record of run.json for a resumed run, with the new budget and the new path of the data."""
    recipe = recipe_of(wanted.run, record)
    record = {**record, "job": _job_id()}
    typed = []
    if _has_budget(wanted):
        before = {"until": state.step, "minutes": recipe.minutes, "steps": recipe.steps}
        record["budgets_before"] = [*record.get("budgets_before", []), before]
        recipe = dataclasses.replace(recipe, minutes=wanted.minutes, steps=wanted.steps)
        typed += ["--minutes", f"{wanted.minutes:g}"] if wanted.minutes is not None else ["--steps", str(wanted.steps)]
    if wanted.data is not None:
        record.setdefault("first_data", recipe.data)
        recipe = dataclasses.replace(recipe, data=lasting(wanted.data))
        typed += ["--data", wanted.data]
    if wanted.rollback:
        record["rollbacks"] = [*record.get("rollbacks", []), state.step]
    if typed:
        command = ["kakusan", "train", "--resume", str(wanted.run), *typed]
        record["resumed"] = [*record.get("resumed", []), command]
    return {**record, "recipe": recipe.record()}


def _check_budget(run: RunDirectory, state: State, budget: Budget) -> None:
    """Raise InputError if a budget is already used up."""
    if budget.progress(state.step, state.seconds) < 1:
        return
    twice = f"--steps {2 * state.step}" if budget.steps else f"--minutes {2 * max(1, round(state.seconds / 60))}"
    raise InputError(
        f"{run.path} is {'finished' if run.finished else 'past this budget'} ({state.step:,} steps, "
        f"{state.seconds / 60:.1f} minutes); a budget counts from the run's beginning: give a larger one, e.g. "
        f"{resume_command(run.path)} {twice}"
    )


def with_groups(recipe: Recipe, device: torch.device, num_examples: int) -> Recipe:
    """Return the recipe with a number of micro-batches; default: as many as can be computed in parallel."""
    optim = recipe.optim
    if optim.groups is not None:
        Engine(optim.groups)  # raises InputError if the ranks cannot divide them
        return recipe
    groups = distributed.world_size()
    over = optim.batch % groups
    if over:
        near = optim.batch - over
        raise InputError(
            f"{groups} ranks cannot divide a batch of {optim.batch}; add --optim.batch {near or groups} or {near + groups}"
        )
    if groups == 1 and num_examples >= PARALLEL and _gains_by_threads(recipe, device):
        groups = PARALLEL
    return dataclasses.replace(recipe, optim=dataclasses.replace(optim, groups=groups))


def _gains_by_threads(recipe: Recipe, device: torch.device) -> bool:
    many = recipe.optim.batch % PARALLEL == 0 and torch.get_num_threads() >= PARALLEL
    return allows_threads(recipe.optim, device) and many and family_of(recipe.model).splits_over_threads


def _train(job: Job, newest: Path | None, fresh: bool) -> Outcome:
    session = None
    try:
        session = Session(job, newest, fresh)
        stopped_by = session.train()
    except Stopped as stopped:
        stopped_by = stopped.number
    except InputError as error:  # e.g. not enough memory for the first step
        begun = session is not None and session.trainer.state.step > 0
        if fresh and not begun and not isinstance(error, PeerFailed) and distributed.is_rank0():
            job.run.discard()
        raise
    if stopped_by and distributed.is_rank0():
        print(f"stopped; resume with: {resume_command(job.run.path)}", file=sys.stderr)
    return Outcome(job.run, stopped_by, distributed.is_rank0())
