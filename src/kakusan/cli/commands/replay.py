"""kakusan replay: do one step of a run again and say what was in it. A step is a function of the run's record alone."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import torch

from kakusan.cli.arguments import Replay
from kakusan.console import tell, writing
from kakusan.errors import InputError
from kakusan.images import Images
from kakusan.run.build import training_terms
from kakusan.run.directory import RunDirectory, refuse_inside_a_run
from kakusan.run.job import reopened, trainer_of
from kakusan.train import checkpoint
from kakusan.train.device import device_named

BEYOND = 10_000  # steps after the last checkpoint, where a run may have ended that was not saved any more
SHOWN = 16  # examples of a batch, named in the text; all of them stand in --json


def main(command: Replay) -> int:
    """Take up the last checkpoint before the step, or begin anew, go there, and show it; nothing is written."""
    run = RunDirectory.open(command.run)
    job = reopened(run, run.read("run.json"), device_named(command.device))
    trainer = trainer_of(job)
    newest = checkpoint.latest(run.checkpoints) if checkpoint.exists(run.checkpoints) else None
    done = checkpoint.state_of(newest).step if newest else 0
    if not 1 <= command.step <= done + BEYOND:
        raise InputError(
            f"--step must lie in 1..{done + BEYOND}: {run.path} has saved {done} and {BEYOND} more can be done; "
            f"got {command.step}"
        )
    if command.out is not None and job.dataset.kind != "images":
        raise InputError(f"{job.dataset.name} holds no pictures to write to {command.out}; leave --out away")
    if command.out is not None:
        if command.out.suffix != ".png":
            raise InputError(f"--out must end in .png, got {command.out}")
        refuse_inside_a_run(command.out)
        with writing(command.out):
            command.out.parent.mkdir(parents=True, exist_ok=True)
    before = command.step - 1  # steps are counted from 1 for people, from 0 inside
    if newest and done <= before:
        checkpoint.take_up(trainer, newest)
    else:
        checkpoint.restore(trainer, run.checkpoints, at_most=before)
    if newest:
        trainer.clock.readings = checkpoint.state_of(newest).readings  # those of later steps too
    tell(f"going from step {trainer.state.step:,} to {command.step:,}")
    trainer.go_to(before)
    trainer.optimizers.clear()
    loss = trainer.gradients(before)
    batches, each = [], {}
    data, augment = job.dataset.train.to(job.device), job.recipe.optim.augment
    with torch.no_grad(), trainer.computing.step(), trainer.computing.forward():
        for group in trainer.engine.groups:
            indices, noise = trainer.draws(before, group)
            parts = {"loss": trainer.loss(indices, noise)}
            noise = trainer.draws(before, group)[1]  # the same once more
            parts |= training_terms(job.module, job.recipe.model, data, indices, noise, augment)
            batches.append(indices.cpu())
            for name, values in parts.items():
                each.setdefault(name, []).extend(values.double().cpu().tolist())
    indices = torch.cat(batches)
    worst = int(np.nanargmax(each["loss"])) if np.isfinite(each["loss"]).any() else 0
    record = {
        "step": command.step,
        "progress": trainer.progress,
        "learning_rate_scale": trainer.scale(),
        "loss": loss.item(),
        "gradient_norm": trainer.norm().item(),
        "skipped": trainer.is_bad(loss, trainer.norm()),
        "terms": {name: float(np.mean(values)) for name, values in each.items()},
        "batch": indices.tolist(),
        "losses": each["loss"],
        "worst_example": int(indices[worst]),
    }
    if command.out is not None:
        pictures = job.dataset.train[indices].permute(0, 2, 3, 1).numpy()
        with writing(command.out):
            Images(pictures).save(command.out, {"run": command.run, "step": command.step})
    if command.json:
        print(json.dumps(_plain(record)))
        return 0
    print(
        f"step {command.step:,}, {record['progress']:.1%} of the budget, learning rates at {record['learning_rate_scale']:.4f} of their peak"
    )
    print(
        f"loss {record['loss']:.6f}, gradient norm {record['gradient_norm']:.6f}"
        + (", skipped" if record["skipped"] else "")
    )
    for name, value in record["terms"].items():
        print(f"  {name:<16}{value:14.6f} on average")
    more = f" and {len(indices) - SHOWN} more" if len(indices) > SHOWN else ""
    print(
        f"batch: examples {', '.join(map(str, indices[:SHOWN].tolist()))}{more}; the largest loss, {max(each['loss']):.6f}, has {record['worst_example']}"
    )
    return 0


def _plain(value: Any) -> Any:
    """With null for what JSON has no number for."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
