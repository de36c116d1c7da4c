"""Throughput next to busy processes, against the fair share of the quiet machine's.

    python benchmarks/contention.py --rounds 5 --busy 0 1 2

Each side is a process of its own that uses all cores as its users get them by default. In each round, blocks of all sides
and numbers of busy processes alternate in random order. On c cores with k busy processes the fair share is c / (c + k).
Rivals are measured where they are installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from results import Figure, Result, Spread, clock_seconds, interleaved

BUSY = "while True: pass"
UNITS = {"train": 20, "sample": 128, "evaluate": 2000}  # steps, samples, evaluated images in one block


def ours(task: str) -> Callable[[], object]:
    """A block of our work: the recipe mnist-ddpm, untrained weights."""
    import torch
    from ours import trainer_on

    from kakusan.data.open import open_data
    from kakusan.recipes import find
    from kakusan.run.train import with_groups
    from kakusan.run.trained_model import TrainedModel
    from kakusan.training.settings import Budget

    recipe = find("mnist-ddpm")
    dataset = open_data(recipe.data, recipe.pictures)
    recipe = with_groups(recipe, torch.device("cpu"), len(dataset.train))
    trainer = trainer_on(dataset.train, recipe, Budget(steps=10**9))
    if task == "train":
        trainer.module.train()
        return lambda: [trainer.step() for _ in range(UNITS["train"])]
    event_shape = tuple(dataset.train.shape[1:])
    model = TrainedModel(recipe, trainer.ema.module.eval(), event_shape, torch.device("cpu"), None)
    if task == "sample":
        return lambda: model.sample(UNITS["sample"], steps=20)
    return lambda: model.evaluate(dataset.test[: UNITS["evaluate"]])


def theirs(library: str, task: str) -> Callable[[], object]:
    """A block of a rival's work with its own network."""
    from rivals import rival
    from rivals.train import Steps

    from kakusan.data.digits import mnist

    one = rival(library)
    if task == "train":
        steps = Steps(one, mnist().train, 48, 1e-3)
        return lambda: steps.take(UNITS["train"])
    name = {"lucidrains": "ddim-20", "diffusers": "dpm-sde-20"}[library]
    return lambda: one.sample(UNITS["sample"], name)


def serve(library: str, task: str, orders: Connection) -> None:
    """Do one block for each message, and send the seconds that it took."""
    from kakusan.cli.allocator import keep_freed_memory

    if library == "kakusan":
        keep_freed_memory()
    block = ours(task) if library == "kakusan" else theirs(library, task)
    block()
    orders.send(0.0)
    while orders.recv():
        orders.send(clock_seconds(block))


@contextmanager
def busy(number: int) -> Iterator[None]:
    """Keep this many processes busy."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(number)]
    time.sleep(0.3 if number else 0.0)
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--busy", type=int, nargs="*", default=[0, 1, 2])
    words.add_argument("--tasks", nargs="*", choices=list(UNITS), default=list(UNITS))
    words.add_argument("--spin", action="store_true", help="leave OpenMP's waiting policy as the environment has it")
    given = words.parse_args()
    if not given.spin:
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    sides = [("kakusan", task) for task in given.tasks]
    for library, package in (("diffusers", "diffusers"), ("lucidrains", "denoising_diffusion_pytorch")):
        if importlib.util.find_spec(package) and importlib.util.find_spec("ema_pytorch"):
            sides += [(library, task) for task in given.tasks if task != "evaluate"]
    context, ends = multiprocessing.get_context("spawn"), {}
    for side in sides:
        ends[side], other = context.Pipe()
        context.Process(target=serve, args=(*side, other), daemon=True).start()
        other.close()
        ends[side].recv()  # one after the other, so that none disturbs another one

    def seconds_of(side: tuple[str, str], number: int) -> float:
        with busy(number):
            ends[side].send(True)
            return ends[side].recv()

    blocks = {(side, number): (side, number) for side in sides for number in given.busy}
    took = interleaved({key: lambda key=key: key for key in blocks}, given.rounds, lambda one: seconds_of(*one()))
    cores, rows = len(os.sched_getaffinity(0)), []
    for (library, task), number in blocks:
        speed = Spread.of([UNITS[task] / one for one in took[(library, task), number]])
        quiet = Spread.of([UNITS[task] / one for one in took[(library, task), 0]]).median if 0 in given.busy else None
        row = {"library": library, "task": task, "busy processes": number, "per second": round(speed.median, 2)}
        row["quartiles"] = f"{speed.low:.3g} to {speed.high:.3g}"
        row["share of the fair share"] = quiet and round(speed.median / quiet * (cores + number) / cores, 3)
        rows.append(row)
        print(json.dumps(row), flush=True)
    Result(
        "contention",
        "How much throughput remains next to busy processes?",
        rows,
        [
            f"{cores} cores; blocks of 20 training steps, 128 samples with 20 steps, and 2,000 evaluated images. The last "
            "column is throughput divided by that without busy processes and by cores / (cores + busy processes).",
        ],
        [Figure("busy processes", "share of the fair share", "task", among=("library", "kakusan"))],
    ).write()


if __name__ == "__main__":
    main()
