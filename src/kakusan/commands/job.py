"""One run with everything that training it needs, from its directory."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import torch

from kakusan import sharing
from kakusan.commands.say import tell
from kakusan.data.dataset import Dataset
from kakusan.data.open import open_data
from kakusan.errors import InputError
from kakusan.recipes.build import Trainable, build, start_at, training_loss
from kakusan.recipes.config import Recipe, from_record
from kakusan.rundir import RunDirectory
from kakusan.train.clock import Reading
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
    shard: bool
    rollbacks: list[int] = field(default_factory=list)


def reopened(run: RunDirectory, record: dict[str, Any], device: torch.device, shard: bool = False) -> Job:
    """A run that was begun before; `record` is that of run.json. InputError if its data are not as they were."""
    recipe = from_record(record["recipe"])
    budget = Budget(recipe.minutes, recipe.steps)
    dataset = open_data(recipe.data, recipe.pictures, tell)
    if dataset.digest() != run.read("data.json")["digest"]:
        raise InputError(
            f"{recipe.data} has changed since {run.path} was started; give the run the data that it began with"
        )
    torch.manual_seed(record["seed"] % 2**63)
    module = build(recipe.model, dataset.event_shape)
    return Job(run, recipe, dataset, module, budget, record["seed"], device, shard, list(record.get("rollbacks", [])))


def trainer_of(job: Job) -> Trainer:
    """An untrained trainer of a run."""
    data = job.dataset.train.to(job.device)
    module = job.module.to(job.device)
    start_at(module, data)
    groups = job.recipe.optim.groups
    batch = min(job.recipe.optim.batch, len(data) // groups * groups)
    if not batch:
        raise InputError(f"{groups} groups of a batch need as many examples, and there are {len(data)}")
    settings = dataclasses.replace(job.recipe.optim, batch=batch)
    loss = training_loss(module, job.recipe.model, data)
    return Trainer(module, loss, len(data), settings, job.budget, job.seed, job.device, job.shard, job.rollbacks)


def wind_clock(trainer: Trainer, run: RunDirectory, other_steps: bool = False, write: bool = True) -> None:
    """Let the run's clock follow what an earlier attempt at the same steps wrote down, and write down what is new."""
    known = [Reading(**line) for line in run.clock()]
    done = trainer.state.readings[1:]
    ahead = [] if other_steps or known[: len(done)] != done else known[len(done) :]
    trainer.clock.ahead = ahead
    if not write:
        return
    sharing.wait()  # all have read
    if sharing.is_first() and known != done + ahead:
        run.set_clock([reading._asdict() for reading in done + ahead])
    if sharing.is_first():
        trainer.clock.record = lambda reading: run.append_clock(reading._asdict())
