"""What the promises cost: training with checks, clock and saves against the same steps without them.

    python benchmarks/overhead.py [RECIPE] [PAIRS]

Short blocks of steps of both kinds alternate in one process of one thread, and processor time is counted, so that what
else the machine does falls on both alike. The bare
loop draws the same batches, cuts the same gradients, takes the same optimiser's steps and averages weights; it does not
look whether anything is finite, reads no clock and asks nobody. A save is timed by itself and counted once a minute.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from kakusan.data.open import open_data
from kakusan.recipes import find
from kakusan.recipes.build import build, start_at, training_loss
from kakusan.train import checkpoint
from kakusan.train.loop import Told, Trainer
from kakusan.train.settings import Budget
from kakusan.train.stopping import StopRequests

SECONDS = 0.25  # of a block, about


def trainer_of(name: str) -> Trainer:
    recipe = find(name)
    data = open_data(recipe.data).train
    torch.manual_seed(0)
    module = build(recipe.model, tuple(data.shape[1:]))
    start_at(module, data)
    loss = training_loss(module, recipe.model, data)
    trainer = Trainer(module, loss, len(data), recipe.optim, Budget(steps=10**9), 0, torch.device("cpu"))
    trainer.clock.start(0)
    trainer.module.train()
    return trainer


def guarded(trainer: Trainer, steps: int) -> None:
    told = Told()
    for _ in range(steps):
        trainer._advance(told)
        told = trainer._step(StopRequests(), save=False)


def bare(trainer: Trainer, steps: int) -> None:
    parameters = [p for p in trainer.module.parameters() if p.requires_grad]
    for _ in range(steps):
        indices, noise = trainer.draws(trainer.state.step, 0)
        trainer.loss(indices, noise).mean().backward()
        if trainer.settings.clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters, trainer.settings.clip)
        trainer.optimizers.step(0.1)
        trainer.state.step += 1
        trainer.ema.update(trainer.state.step)


def main(name: str = "mnist-ddpm", pairs: str = "60") -> None:
    torch.set_num_threads(1)
    trainer = trainer_of(name)
    guarded(trainer, 10)
    began = time.process_time()
    guarded(trainer, 10)
    steps = max(2, round(10 * SECONDS / (time.process_time() - began)))
    ratios, plain = [], []
    for pair in range(int(pairs)):
        seconds = {}
        for kind in (bare, guarded) if pair % 2 else (guarded, bare):
            began = time.process_time()
            kind(trainer, steps)
            seconds[kind] = time.process_time() - began
        ratios.append(seconds[guarded] / seconds[bare] - 1)
        plain.append(seconds[bare] / steps)
    saves = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(5):
            trainer.state.step += 1
            began = time.perf_counter()
            checkpoint.save(trainer, Path(folder) / "checkpoints")
            saves.append(time.perf_counter() - began)
    low, middle, high = statistics.quantiles(ratios, n=4)
    save = statistics.median(saves)
    print(f"{name}: {1000 * statistics.median(plain):.2f} ms a bare step; {pairs} pairs of blocks of {steps} steps")
    print(f"checks and clock: {middle:+.2%} (quartiles {low:+.2%} to {high:+.2%})")
    print(f"a save: {save:.2f} s (median of 5), once in 60 s: {save / 60:+.2%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
