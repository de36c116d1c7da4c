"""Training runs of the command that are killed and resumed, in forks of a process that has imported everything.

A kill is SIGKILL at the n-th file operation, after the k-th step, or at a random instant. Each killed run is resumed by
the command that a user would type, until a run ends. Its numbers must be those of an unbroken run.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from harness import disk_model, planting
from kakusan.storage import files

STEPS = 12
BUDGET = ("--steps", str(STEPS))
COMMON = [*BUDGET, "--optim.batch", "8", "--seed", "5"]
FAMILIES = {
    "vae": ["mnist-vae", "--model.hidden", "16", "--model.latent", "3"],
    "hierarchy": ["mnist-hvae", "--model.hidden", "12", "--model.latents", "4", "3"],
    "diffusion": [
        "mnist-ddpm", "--model.width", "8", "--model.inner-width", "16", "--model.blocks", "1", "--model.depth", "8"
    ],
}  # fmt: skip
LIMIT_S = 3600  # of a hundred attempts, which take a minute on a quiet machine
INSTANTS = 10
FILES = ("model.safetensors", "ema.safetensors", "optimizer.safetensors")


def make_data(folder: Path) -> Path:
    """Write a data set of eighty 4 x 4 images."""
    random_numbers = np.random.default_rng(0)
    train, test = (random_numbers.integers(0, 256, (n, 4, 4), dtype=np.uint8) for n in (64, 16))
    np.savez(folder / "tiny.npz", train_images=train, test_images=test)
    return folder / "tiny.npz"


def numbers(run: Path) -> dict[str, str]:
    """SHA-256 of the weights, averages and moments of a finished run."""
    newest = max((run / "checkpoints").glob("step-*"))
    manifest = json.loads((newest / "manifest.json").read_text())
    digest = json.loads((run / "summary.json").read_text())["weights_sha256"]
    return {"step": newest.name, "weights": digest, **{name: manifest["files"][name]["sha256"] for name in FILES}}


def killed_until_done(
    way: str, family: str, data: Path, run: Path, budget: tuple[str, ...] = BUDGET
) -> tuple[dict[str, str], int]:
    """Train with kills of one kind; return the numbers at the end and the number of kills."""
    planting.start_server()
    found = planting.in_a_fork(_killed_until_done, way, family, data, run, budget, limit_s=LIMIT_S)
    assert not isinstance(found, str), found
    return found


def _killed_until_done(
    way: str, family: str, data: Path, run: Path, budget: tuple[str, ...], answer: Connection
) -> None:
    import torch

    import kakusan.run.train  # noqa: F401 - once, not in every attempt

    torch.set_num_threads(1)
    try:
        kills = 0
        for prepare in WAYS[way]():
            status = _attempt(family, data, run, budget, prepare)
            if status == 0:
                break
            assert status == -signal.SIGKILL, f"the command ended with status {status}"
            kills += 1
            if (run / "summary.json").exists():  # killed when all was done: there is nothing to go on with
                break
        answer.send((numbers(run), kills))
    except BaseException:
        answer.send(traceback.format_exc())


def _attempt(family: str, data: Path, run: Path, budget: tuple[str, ...], prepare: Callable[[], None]) -> int:
    """Start or resume the run in a process of its own; return the exit status."""
    command = ["train", *FAMILIES[family], "--data", str(data), "--out", str(run), *budget, *COMMON[2:]]
    if (run / "run.json").exists():
        command = ["train", "--resume", str(run)]
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        from kakusan.cli import main

        log = (run.parent / f"{run.name}.log").open("a")
        sys.stdout = sys.stderr = log
        prepare()
        main(command)
    except SystemExit as done:
        sys.stdout.flush()
        os._exit(done.code if isinstance(done.code, int) else 0)
    except BaseException:
        traceback.print_exc()
        sys.stdout.flush()
    os._exit(1)


def _unbroken() -> Iterator[Callable[[], None]]:
    yield lambda: None


def _at_operations() -> Iterator[Callable[[], None]]:
    """Kill the first attempt at its first file operation, the next one at its second, and so on."""
    number = 0
    while True:
        number += 1
        yield lambda number=number: setattr(files, "watch", disk_model.end_at(number))


def _after_steps() -> Iterator[Callable[[], None]]:
    """Kill each attempt after a step at which no earlier attempt was killed."""
    for step in range(1, STEPS + 1):
        yield lambda step=step: _kill_after(step)
    yield lambda: None


def _kill_after(step: int) -> None:
    from kakusan.training.progress import ProgressLine

    shown = ProgressLine.update

    def update(self, trainer):
        shown(self, trainer)
        if trainer.state.step == step:
            os.kill(os.getpid(), signal.SIGKILL)

    ProgressLine.update = update


def _at_instants() -> Iterator[Callable[[], None]]:
    """Kill ten attempts at random instants within the time of a quick attempt, then let one end."""
    dice = random.Random()
    for _ in range(INSTANTS):
        seconds = dice.uniform(0.0, 0.4)
        yield lambda seconds=seconds: _kill_in(seconds)
    yield lambda: None


def _kill_in(seconds: float) -> None:
    if os.fork() == 0:  # a process that does nothing but wait and kill
        time.sleep(seconds)
        os.kill(os.getppid(), signal.SIGKILL)
        os._exit(0)


WAYS = {"unbroken": _unbroken, "operations": _at_operations, "steps": _after_steps, "instants": _at_instants}
