"""Cost of the promises: training with checks, clock and saves, compared with the same steps without them.

    python benchmarks/overhead.py [RECIPE] [PAIRS]

Steps of both kinds alternate in short blocks in one process of one thread, and processor time is counted, so that other
load falls on both equally. The bare loop draws the same batches, clips the same gradients, takes the same optimizer steps
and averages weights. It checks nothing for finite values and reads no clock. Pairs of two bare blocks show the error of
the measurement itself. A save is timed alone and counted once per minute.
"""

import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from kakusan.data.open import open_data
from kakusan.recipes import find
from kakusan.run.build import build, start_at, training_loss
from kakusan.training import checkpoint
from kakusan.training.loop import Trainer
from kakusan.training.settings import Budget

SECONDS = 0.05  # per block, about; at least two steps
REPLICATES = 2000  # of the bootstrap over pairs


def trainer_of(name: str) -> Trainer:
    recipe = find(name)
    data = open_data(recipe.data).train
    torch.manual_seed(0)
    module = build(recipe.model, tuple(data.shape[1:]))
    start_at(module, recipe.model, data)
    loss = training_loss(module, recipe.model, data)
    trainer = Trainer(module, loss, len(data), recipe.optim, Budget(steps=10**9), 0, torch.device("cpu"))
    trainer.module.train()
    return trainer


def guarded(trainer: Trainer, steps: int) -> None:
    for _ in range(steps):
        trainer.step()


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


def seconds(kind, trainer: Trainer, steps: int) -> float:
    began = time.process_time()
    kind(trainer, steps)
    return time.process_time() - began


def costs(trainer: Trainer, steps: int, pairs: int) -> tuple[list[float], list[float], float]:
    """Relative cost of the guarded block in each pair, that of a second bare block, and seconds per bare step."""
    of_guards, of_nothing, plain = [], [], []
    for _ in range(pairs):
        blocks = {"bare": bare, "bare again": bare, "guarded": guarded}
        order = random.sample(sorted(blocks), len(blocks))  # the state of the caches falls on all equally
        took = {name: seconds(blocks[name], trainer, steps) for name in order}
        of_guards.append(took["guarded"] / took["bare"] - 1)
        of_nothing.append(took["bare again"] / took["bare"] - 1)
        plain.append(took["bare"] / steps)
    return of_guards, of_nothing, statistics.median(plain)


def words(ratios: list[float]) -> str:
    """Median with its 95 % interval by the bootstrap over pairs."""
    medians = sorted(statistics.median(random.choices(ratios, k=len(ratios))) for _ in range(REPLICATES))
    low, high = medians[round(0.025 * REPLICATES)], medians[round(0.975 * REPLICATES) - 1]
    return f"{statistics.median(ratios):+.2%} (95 %: {low:+.2%} to {high:+.2%})"


def main(name: str = "mnist-ddpm", pairs: str = "300") -> None:
    torch.set_num_threads(1)
    random.seed(0)
    trainer = trainer_of(name)
    seconds(guarded, trainer, 10)
    steps = max(2, round(10 * SECONDS / seconds(bare, trainer, 10)))
    of_guards, of_nothing, plain = costs(trainer, steps, int(pairs))
    saves = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(5):
            trainer.state.step += 1
            began = time.perf_counter()
            checkpoint.save(trainer, Path(folder) / "checkpoints")
            saves.append(time.perf_counter() - began)
    save = statistics.median(saves)
    print(f"{name}: {1000 * plain:.2f} ms a bare step; {pairs} triples of blocks of {steps} steps")
    print(f"checks and clock: {words(of_guards)}; two bare blocks compared: {words(of_nothing)}")
    print(f"a save: {save:.3f} s (median of 5), once in 60 s: {save / 60:+.2%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
