"""One run with everything that training it needs, from its directory."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import torch

from kakusan.console import tell
from kakusan.data.dataset import Dataset
from kakusan.data.open import open_data
from kakusan.errors import InputError
from kakusan.objectives.distillation import Distillation
from kakusan.run.build import Trainable, build, start_at, training_loss
from kakusan.run.directory import RunDirectory
from kakusan.run.model_file import Artefact
from kakusan.run.recipe import Recipe, from_record
from kakusan.run.student import distillation, distillation_loss
from kakusan.run.teacher import kept_teacher, teacher_chain
from kakusan.train.loop import Trainer
from kakusan.train.settings import Budget


@dataclass(frozen=True)
class Job:
    """A run, opened, its module untrained."""

    run: RunDirectory
    recipe: Recipe
    dataset: Dataset
    module: Trainable
    budget: Budget
    seed: int
    device: torch.device
    teacher: Artefact | None = None  # of a student
    rollbacks: list[int] = field(default_factory=list)
    earlier: list[tuple[int, Budget]] = field(default_factory=list)  # budgets before this one, each up to a step


def reopened(run: RunDirectory, record: dict[str, Any], device: torch.device) -> Job:
    """A run that was begun before; `record` is that of run.json. InputError if its data are not as they were."""
    recipe = from_record(record["recipe"])
    budget = Budget(recipe.minutes, recipe.steps)
    dataset = open_data(recipe.data, recipe.pictures, tell)
    if dataset.digest() != run.read("data.json")["digest"]:
        raise InputError(
            f"{recipe.data} has changed since {run.path} was started; give the run the data that it began with"
        )
    torch.manual_seed(record["seed"] % 2**63)
    teacher = None if recipe.distil is None else kept_teacher(run)
    module = untrained(recipe, dataset.event_shape, teacher)
    rollbacks = list(record.get("rollbacks", []))
    before = [(one["until"], Budget(one["minutes"], one["steps"])) for one in record.get("budgets_before", [])]
    return Job(run, recipe, dataset, module, budget, record["seed"], device, teacher, rollbacks, before)


def untrained(recipe: Recipe, event_shape: tuple[int, ...], teacher: Artefact | None) -> Trainable:
    """What is to be trained; with a teacher, a student of it."""
    return build(recipe.model, event_shape) if teacher is None else distillation(recipe, event_shape, teacher.weights)


def trainer_of(job: Job) -> Trainer:
    """An untrained trainer of a run."""
    data = job.dataset.train.to(job.device)
    module = job.module.to(job.device)
    start_at(module, data, job.recipe.optim.augment)
    groups = job.recipe.optim.num_groups
    batch = min(job.recipe.optim.batch, len(data) // groups * groups)
    if not batch:
        raise InputError(f"{groups} groups of a batch need as many examples, and there are {len(data)}")
    settings = dataclasses.replace(job.recipe.optim, batch=batch)
    if isinstance(module, Distillation):
        assert job.teacher is not None, "a student has one"
        loss = distillation_loss(module, job.recipe, data, teacher_chain(job.teacher, job.recipe, job.device))
    else:
        loss = training_loss(module, job.recipe.model, data, job.recipe.optim.augment)
    return Trainer(
        module,
        loss,
        len(data),
        settings,
        job.budget,
        job.seed,
        job.device,
        rollbacks=job.rollbacks,
        earlier=job.earlier,
    )
