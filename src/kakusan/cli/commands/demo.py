"""kakusan demo: the digits DDPM from nothing to a report."""

from __future__ import annotations

import dataclasses

from kakusan.cli.arguments import Demo, Resume
from kakusan.console import tell
from kakusan.errors import InputError
from kakusan.recipes import find
from kakusan.run import train
from kakusan.run.directory import RunDirectory
from kakusan.run.finish import conclude

RECIPE = "mnist-ddpm"


def main(command: Demo) -> int:
    """Train, or go on, or show again what is finished."""
    path = command.out
    if not (path / "run.json").exists():
        recipe = find(RECIPE)
        typed = ["kakusan", "demo", "--out", str(path), "--seed", str(command.seed)]
        if command.minutes is not None:
            recipe = dataclasses.replace(recipe, minutes=command.minutes, steps=None)
            typed += ["--minutes", str(command.minutes)]
        return train.start(train.Start(recipe, path, command.seed, command.device), typed)
    run = RunDirectory.open(path)
    name = run.read("run.json")["recipe"].get("name")
    if name != RECIPE:
        raise InputError(f"{path} holds a run of {name}, not the demo's {RECIPE}; choose another --out")
    if not run.finished:
        tell(f"{path} was interrupted; going on with the settings that it began with")
        return train.resume(Resume(resume=path))
    print(f"{path} is finished; delete it to train anew")
    conclude(run)
    return 0
