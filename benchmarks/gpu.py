"""Utilization of a GPU in training, and quality of digits after a minute of it.

    python benchmarks/gpu.py --seconds 60 --out docs/benchmarks

Everything runs in one process, because a device may be available for minutes only. First the recipe is trained for
--seconds, compiling included, and its samples are measured. Then the device's own rate is measured in a product of two
square matrices, and the recipe's training rate in steady state with its share of that.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import torch
from quality import NOTE, quality
from results import FOLDER, Result, Spread

from kakusan.data.dataset import Dataset
from kakusan.data.open import open_data
from kakusan.recipes import find
from kakusan.run.build import build, count_parameters, start_at, training_loss
from kakusan.run.recipe import Recipe
from kakusan.run.trained_model import TrainedModel
from kakusan.training import flops
from kakusan.training.device import device_named
from kakusan.training.loop import Trainer
from kakusan.training.settings import Budget, Optim

BLOCKS = 5  # of steps, timed one by one
DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16}


def parser() -> argparse.ArgumentParser:
    own = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    own.add_argument("--recipe", default="mnist-transformer")
    own.add_argument("--device", default="cuda")
    own.add_argument("--seconds", type=float, default=60.0, help="length of the run that is sampled; 0: none")
    own.add_argument("--block", type=float, default=4.0, help="seconds per timed block of steps, about")
    own.add_argument("--side", type=int, default=flops.SIDE, help="side of the square matrices")
    own.add_argument("--samples", type=int, default=10_000)
    own.add_argument("--sampling-steps", type=int, default=20)
    for name in ("width", "blocks", "patch"):
        own.add_argument(f"--{name}", type=int)
    own.add_argument("--batch", type=int)
    for name in ("precision", "compile", "method", "augment"):
        own.add_argument(f"--{name}")
    own.add_argument("--lr", type=float)
    own.add_argument("--matrix-lr", type=float)
    own.add_argument("--out", type=Path, default=FOLDER)
    return own


def recipe_of(typed: argparse.Namespace) -> Recipe:
    """Recipe with the settings of the command line."""
    recipe, given = find(typed.recipe), {name: value for name, value in vars(typed).items() if value is not None}
    model = {name: given[name] for name in ("width", "blocks", "patch") if name in given}
    optim = {field.name: given[field.name] for field in dataclasses.fields(Optim) if field.name in given}
    return dataclasses.replace(
        recipe, model=dataclasses.replace(recipe.model, **model), optim=dataclasses.replace(recipe.optim, **optim)
    )


def trainer_of(recipe: Recipe, dataset: Dataset, device: torch.device, budget: Budget) -> Trainer:
    torch.manual_seed(0)
    module = build(recipe.model, dataset.event_shape).to(device)
    data = dataset.train.to(device)
    start_at(module, recipe.model, data, recipe.optim.augment)
    loss = training_loss(module, recipe.model, data, recipe.optim.augment)
    return Trainer(module, loss, len(data), recipe.optim, budget, 0, device)


def rates(one: Trainer, seconds: float) -> tuple[float, list[float]]:
    """Seconds until the first steps are done, compiling included, and seconds per step of each later block."""
    began = time.perf_counter()
    done = 3
    one.go_to(done)
    flops.wait(one.device)
    ready = time.perf_counter() - began
    steps, each = 1, []
    while len(each) < BLOCKS:
        began = time.perf_counter()
        done += steps
        one.go_to(done)
        flops.wait(one.device)
        took = time.perf_counter() - began
        if took < seconds / 2 and not each:
            steps *= 2  # until a block is long enough to be timed
        else:
            each.append(took / steps)
    return ready, each


def after(recipe: Recipe, dataset: Dataset, device: torch.device, typed: argparse.Namespace) -> dict[str, object]:
    """Quality of samples after this many seconds of wall-clock training."""
    began = time.perf_counter()
    one = trainer_of(recipe, dataset, device, Budget(minutes=typed.seconds / 60))
    one.run([], on_mark=lambda _: None, on_step=lambda _: None)
    flops.wait(device)
    took = time.perf_counter() - began
    model = TrainedModel(recipe, one.ema.module, dataset.event_shape, device, one.early)
    began = time.perf_counter()
    pictures = model.sample(typed.samples, steps=typed.sampling_steps)
    sampling = time.perf_counter() - began
    row = {"trained for s": round(took, 1), "steps": one.state.step, "images": one.state.images(recipe.optim.batch)}
    return row | {"sampling s": round(sampling, 1)} | quality(pictures)


def main(arguments: list[str] | None = None) -> None:
    typed = parser().parse_args(arguments)
    device = device_named(typed.device)
    recipe, dataset = recipe_of(typed), open_data("mnist")
    # first, so that nothing is compiled yet but what an earlier process may have left on the disk
    digits = after(recipe, dataset, device, typed) if typed.seconds else {}
    one = trainer_of(recipe, dataset, device, Budget(steps=10**9))
    cost = flops.per_example(one)
    assert cost, "a recipe with networks, in one process"
    with one.computing.step():
        peak = flops.measured_peak(device, DTYPES[recipe.optim.precision], typed.side)
    ready, each = rates(one, typed.block)
    images = Spread.of(each).each(lambda seconds: recipe.optim.batch / seconds)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    row: dict[str, object] = {
        "device": name,
        "recipe": recipe.name,
        "precision": recipe.optim.precision,
        "compile": recipe.optim.compile,
        "batch": recipe.optim.batch,
        "parameters": count_parameters(one.module),
        "GFLOP an image": round(cost / 1e9, 3),
        "first 3 steps s": round(ready, 1),
        "images/s": round(images.median, 1),
        "low": round(images.low, 1),
        "high": round(images.high, 1),
        "GFLOP/s": round(images.median * cost / 1e9, 1),
        "of the product's": round(images.median * cost / peak, 4),
    }
    if device.type == "cuda":
        row["peak GiB"] = round(torch.cuda.max_memory_allocated(device) / 2**30, 2)
    facts = {"GFLOP/s of a product of matrices": round(peak / 1e9, 1), "their side": typed.side}
    notes = [
        "Model FLOPs: products of matrices, convolutions and attention, forward and backward, of the loss alone. The "
        f"rate is the median of {images.n} blocks, with quartiles; the device's own is the fastest of several products.",
        NOTE,
    ]
    question = "How busy does training keep the device, and how good are digits after a short run?"
    Result("gpu", question, [row | digits], notes, facts=facts).write(typed.out)


if __name__ == "__main__":
    main()
