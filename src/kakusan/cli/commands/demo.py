"""kakusan demo: train a DDPM of digits, evaluate it and write a report."""

from __future__ import annotations

import dataclasses

from kakusan.cli.arguments import Demo
from kakusan.cli.commands.train import print_summary, resume, start
from kakusan.console import say, tell
from kakusan.errors import InputError
from kakusan.recipes import find
from kakusan.run.directory import RunDirectory
from kakusan.run.train import Resume, Start

RECIPE = "mnist-ddpm"


def main(command: Demo) -> int:
    """Train a new demo, resume an unfinished one, or show a finished one."""
    path = command.out
    if not (path / "run.json").exists():
        recipe = find(RECIPE)
        typed = ["kakusan", "demo", "--out", str(path), "--seed", str(command.seed)]
        if command.minutes is not None:
            recipe = dataclasses.replace(recipe, minutes=command.minutes, steps=None)
            typed += ["--minutes", str(command.minutes)]
        return start(Start(recipe, path, command.seed, command.device), typed)
    run = RunDirectory.open(path)
    name = run.read("run.json")["recipe"].get("name")
    if name != RECIPE:
        raise InputError(f"{path} holds a run of {name}, not the demo's {RECIPE}; choose another --out")
    if not run.finished:
        tell(f"{path} was interrupted; resuming with its own settings")
        return resume(Resume(path))
    say(f"{path} is finished; delete it to train again")
    print_summary(run)
    return 0
