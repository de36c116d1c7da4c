"""A run, its data and its module, ready for training."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import nn

from kakusan.data.dataset import Dataset
from kakusan.errors import InputError
from kakusan.run.build import build, start_at, training_loss
from kakusan.run.directory import RunDirectory
from kakusan.run.families.conditional import labels_of
from kakusan.run.initial import kept_initial, start_from
from kakusan.run.model_file import ExportedModel
from kakusan.run.own_data import open_for
from kakusan.run.recipe import Recipe, recipe_of
from kakusan.run.student import distillation, distillation_loss
from kakusan.run.teacher import kept_teacher, teacher_chain
from kakusan.training.loop import Trainer
from kakusan.training.settings import Budget


@dataclass(frozen=True)
class Job:
    """A locked run, its data and its untrained module."""

    run: RunDirectory
    recipe: Recipe
    dataset: Dataset
    module: nn.Module
    budget: Budget
    seed: int
    device: torch.device
    teacher: ExportedModel | None = None  # teacher of a student
    initial: ExportedModel | None = None  # model whose weights the run starts from
    rollbacks: list[int] = field(default_factory=list)
    earlier: list[tuple[int, Budget]] = field(default_factory=list)  # former budgets and the last step of each
    first_data: str = ""  # original path of the data, if it has changed since


def reopened(run: RunDirectory, record: dict[str, Any], device: torch.device) -> Job:
    """Open a run that was started before; InputError if its data have changed.

    Args:
        run: The run.
        record: Content of its run.json, possibly with another budget or another path of the same data.
        device: Device of training.
    """
    recipe = recipe_of(run.path, record)
    dataset = open_same_data(run, recipe)
    torch.manual_seed(record["seed"] % 2**63)
    teacher = None if recipe.distil is None else kept_teacher(run)
    return Job(
        run,
        recipe,
        dataset,
        untrained(recipe, dataset.event_shape, teacher),
        Budget(recipe.minutes, recipe.steps),
        record["seed"],
        device,
        teacher,
        initial=kept_initial(run),
        rollbacks=list(record.get("rollbacks", [])),
        earlier=[(one["until"], Budget(one["minutes"], one["steps"])) for one in record.get("budgets_before", [])],
        first_data=record.get("first_data", ""),
    )


def open_same_data(run: RunDirectory, recipe: Recipe) -> Dataset:
    """Open the data of a run and verify by their digest that they are unchanged."""
    try:
        dataset = open_for(run.path, recipe.data, recipe.pictures)
    except InputError as error:
        raise InputError(f"{error}; if the data have moved, add --data PATH") from error
    if not dataset.matches(run.read("data.json")["digest"]):
        raise InputError(
            f"{recipe.data} has changed since {run.path} was started; name the original data with --data PATH"
        )
    return dataset


def untrained(recipe: Recipe, event_shape: tuple[int, ...], teacher: ExportedModel | None) -> nn.Module:
    """Build the module to train; with a teacher, its student."""
    return build(recipe.model, event_shape) if teacher is None else distillation(recipe, event_shape, teacher.weights)


def trainer_of(job: Job) -> Trainer:
    """Build the trainer of a run, at step 0."""
    data = job.dataset.train.to(job.device)
    module = job.module.to(job.device)
    labels = labels_of(job.recipe.model, job.dataset, "train") if job.teacher is None else None
    labels = labels if labels is None else labels.to(job.device)
    start_at(module, job.recipe.model, data, job.recipe.optim.augment, labels)
    if job.initial is not None:
        start_from(module, job.initial)
    groups = job.recipe.optim.num_groups
    batch = min(job.recipe.optim.batch, len(data) // groups * groups)
    if not batch:
        raise InputError(f"{groups} micro-batches need at least as many training examples, got {len(data)}")
    settings = dataclasses.replace(job.recipe.optim, batch=batch)
    if job.teacher is not None:
        loss = distillation_loss(
            cast(Any, module), job.recipe, data, teacher_chain(job.teacher, job.recipe, job.device)
        )
    else:
        loss = training_loss(module, job.recipe.model, data, job.recipe.optim.augment, labels)
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
