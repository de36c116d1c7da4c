"""Replay of one training step: its batch, loss and gradient. The run does not change."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kakusan.console import tell, writing
from kakusan.errors import InputError
from kakusan.run.build import training_terms
from kakusan.run.directory import RunDirectory, check_new
from kakusan.run.families.conditional import labels_of
from kakusan.run.job import Job, reopened, trainer_of
from kakusan.training import checkpoint
from kakusan.training.device import device_named
from kakusan.training.loop import Trainer

BEYOND = 10_000  # number of steps after the last checkpoint of an unfinished run that can be replayed
SHOWN = 16  # number of examples of a batch in the printed list


@dataclass(frozen=True)
class Replayed:
    """One training step."""

    step: int
    progress: float
    learning_rate_scale: float
    loss: float
    gradient_norm: float
    skipped: bool
    terms: dict[str, float]  # averages over the batch
    batch: list[int]  # indices of its examples
    losses: list[float]  # loss of each example
    worst_example: int

    def record(self) -> dict[str, Any]:
        """Return plain JSON values, with null for numbers that are not finite."""
        return _finite(vars(self))

    def lines(self) -> list[str]:
        """Return the step as lines of text."""
        more = f" and {len(self.batch) - SHOWN} more" if len(self.batch) > SHOWN else ""
        return [
            f"step {self.step:,}, {self.progress:.1%} of the budget, learning rates at "
            f"{self.learning_rate_scale:.4f} of their peak",
            f"loss {self.loss:.6f}, gradient norm {self.gradient_norm:.6f}{', skipped' if self.skipped else ''}",
            *(f"  {name:<16}{value:14.6f} on average" for name, value in self.terms.items()),
            f"batch: examples {', '.join(map(str, self.batch[:SHOWN]))}{more}; the largest loss, "
            f"{max(self.losses):.6f}, is that of example {self.worst_example}",
        ]


def replay(run: Path | str, step: int, *, out: Path | None = None, device: str = "auto") -> Replayed:
    """Repeat one training step from the last checkpoint before it.

    Args:
        run: Run directory.
        step: Number of the step, starting at 1.
        out: New `.png` file for the images of its batch (default: none).
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
    """
    directory = RunDirectory.open(Path(run))
    job = reopened(directory, directory.read("run.json"), device_named(device))
    _check_out(job, out)
    trainer = _before(job, step)
    loss = trainer.gradients(step - 1)
    batch, each = _per_example(job, trainer, step - 1)
    worst = int(np.nanargmax(each["loss"])) if np.isfinite(each["loss"]).any() else 0
    if out is not None:
        examples = job.dataset.form.samples(job.dataset.train[batch])
        with writing(out):
            job.dataset.form.save_figure(examples, out, {"run": run, "step": step})
    return Replayed(
        step=step,
        progress=trainer.progress,
        learning_rate_scale=trainer.scale(),
        loss=loss.item(),
        gradient_norm=trainer.norm().item(),
        skipped=trainer.is_bad(loss, trainer.norm()),
        terms={name: float(np.mean(values)) for name, values in each.items()},
        batch=batch.tolist(),
        losses=each["loss"],
        worst_example=int(batch[worst]),
    )


def _check_out(job: Job, out: Path | None) -> None:
    if out is None:
        return
    if not job.dataset.form.has_figure:
        raise InputError(f"{job.dataset.name} holds no images to write to {out}; omit --out")
    if out.suffix != ".png":
        raise InputError(f"--out must end in .png, got {out}")
    check_new(out)
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)


def _before(job: Job, step: int) -> Trainer:
    """Return a trainer that is about to take step number `step`, counted from 1."""
    run = job.run
    trainer = trainer_of(job)
    newest = checkpoint.latest(run.checkpoints) if checkpoint.exists(run.checkpoints) else None
    done = checkpoint.state_of(newest).step if newest else 0
    last = done if run.finished else min(done + BEYOND, job.budget.steps or done + BEYOND)
    if not 1 <= step <= last:
        more = "it is finished" if run.finished else f"{done:,} are saved"
        raise InputError(f"--step must lie in 1..{last}, the steps of {run.path} ({more}); got {step}")
    if newest and done < step:
        checkpoint.load(trainer, newest)
    else:
        checkpoint.restore(trainer, run.checkpoints, at_most=step - 1)
    if newest:
        trainer.clock.readings = checkpoint.state_of(newest).readings  # includes clock readings after this step
    tell(f"from step {trainer.state.step:,} to {step:,}")
    trainer.go_to(step - 1)
    trainer.optimizers.clear()
    return trainer


@torch.no_grad()
def _per_example(job: Job, trainer: Trainer, step: int) -> tuple[torch.Tensor, dict[str, list[float]]]:
    """Return the indices of a step's examples, and each example's loss and its terms."""
    batches, each = [], {}
    data, augment = job.dataset.train.to(job.device), job.recipe.optim.augment
    labels = labels_of(job.recipe.model, job.dataset, "train")
    labels = labels if labels is None else labels.to(job.device)
    with trainer.computing.step(), trainer.computing.forward():
        for group in trainer.engine.micro_batches:
            indices, noise = trainer.draws(step, group)
            parts = {"loss": trainer.loss(indices, noise)}
            noise = trainer.draws(step, group)[1]  # the same noise again
            parts |= training_terms(job.module, job.recipe.model, data, indices, noise, augment, labels)
            batches.append(indices.cpu())
            for name, values in parts.items():
                each.setdefault(name, []).extend(values.cpu().double().tolist())
    return torch.cat(batches), each


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
