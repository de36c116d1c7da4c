"""Our side of a comparison: a recipe trained for processor seconds instead of wall-clock minutes."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from images_task import ImagesTask
from results import CORES
from torch import Tensor, nn

from kakusan.run.build import build, start_at, training_loss
from kakusan.run.recipe import Recipe
from kakusan.run.trained_model import TrainedModel
from kakusan.training.loop import Trainer
from kakusan.training.settings import Budget


def trainer_on(
    pictures: Tensor, recipe: Recipe, budget: Budget, seed: int = 0, prepare: Callable[[nn.Module], None] | None = None
) -> Trainer:
    """Build a trainer for training images uint8 (N, C, H, W) whose clock counts processor time.

    `prepare` may change the model before the trainer receives it: a trainer remembers the memory of its weights.
    """
    torch.manual_seed(seed)
    module = build(recipe.model, tuple(pictures.shape[1:]))
    start_at(module, recipe.model, pictures, recipe.optim.augment)
    if prepare:
        prepare(module)
    loss = training_loss(module, recipe.model, pictures, recipe.optim.augment)
    one = Trainer(module, loss, len(pictures), recipe.optim, budget, seed, torch.device("cpu"))
    one.clock.now = time.process_time
    return one


def trained(task: ImagesTask, seconds: float, spent: float, seed: int = 0) -> tuple[TrainedModel, Trainer, float]:
    """Train our recipe of a task for `seconds` of processor time, `spent` of them before this call; also return the time used.

    Importing, data and set-up keep one of the cores busy and count for all of them.
    """
    began = time.process_time()
    dataset = task.dataset()
    recipe, pictures = task.recipe(dataset), dataset.train
    one = trainer_on(pictures, recipe, Budget(minutes=1.0), seed)
    spent += CORES * (time.process_time() - began)
    if spent >= seconds:
        raise ValueError(f"{seconds:g} processor seconds are gone before training begins, after {spent:.1f}")
    one.budget = Budget(minutes=(seconds - spent) / 60)
    began = time.process_time()
    one.run([], on_mark=lambda _: None, on_step=lambda _: None)
    spent += time.process_time() - began
    return TrainedModel(recipe, one.ema.module, tuple(pictures.shape[1:]), one.device, one.early), one, spent
