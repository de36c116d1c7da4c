"""kakusan train: start a run of a recipe or resume a run. Torch is imported after the flags are checked."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from kakusan.cli.arguments import Distill, Processes, Resume, Train
from kakusan.cli.commands import concluded
from kakusan.cli.parser import Parser, naming_flags
from kakusan.console import command as typed_command
from kakusan.console import entry, say
from kakusan.errors import InputError
from kakusan.recipes import RECIPES, find
from kakusan.run.recipe import Recipe

OF_LAUNCHER = ("--devices", "--restarts")  # flags that are not passed to the started processes


def main(words: list[str]) -> int:
    """Start a run, resume one, or print the usage; return the exit status."""
    if any(word.partition("=")[0] == "--resume" for word in words):
        return _resume(words)
    if not words or words[0] in ("-h", "--help"):
        say("usage: kakusan train RECIPE [options]   or   kakusan train --resume RUN [--minutes M or --steps N]", "")
        for recipe in RECIPES.values():
            say(*entry(recipe.name, recipe.summary).splitlines())
        say(
            "",
            f"{typed_command('train', 'RECIPE', '--help')} lists all settings of a recipe, and "
            f"{typed_command('train', '--resume', '--help')} those of a run.",
        )
        return 0
    return _start(words)


def _resume(words: list[str]) -> int:
    parser = Parser(Resume, "kakusan train")
    if words[0] in RECIPES:
        raise InputError(f"--resume takes no recipe; type: {typed_command('train', *words[1:])}")
    for flag in (word.partition("=")[0] for word in words if word.startswith("--")):
        if flag not in parser.flags and flag != "--help":
            allowed = ", ".join(name for name in parser.flags if "-no-" not in name and name != "--resume")
            raise InputError(
                f"a run keeps its own data and settings, so {flag} cannot be given; --resume takes {allowed}"
            )
    command = parser.parse(words)
    if command is None:
        return 0
    if command.devices > 1:
        return _launch(words, command)
    from kakusan.run import train

    fields = (command.resume, command.minutes, command.steps, command.device, command.rollback, command.data)
    return concluded(train.resume(train.Resume(*fields)))


def _start(words: list[str]) -> int:
    name, *rest = words
    if name.startswith("-"):
        example = next(iter(RECIPES))
        raise InputError(f"expected a recipe first, got {name!r}; type: {typed_command('train', example, *words)}")
    recipe = find(name)
    command = _parser(recipe).parse(rest)
    if command is None:
        return 0
    if command.minutes is not None and command.steps is not None:
        raise InputError("expected --minutes or --steps, got both; leave one out")
    from kakusan.run.trained_run import default_out  # imported here, because --help does not need it

    out = command.out or default_out(recipe.name)
    if command.devices > 1:
        return _launch([*words, "--out", str(out)], command)  # the same directory for all processes
    from kakusan.run import train

    with naming_flags():
        wanted = _wanted(recipe, command, out)
    return concluded(train.start(wanted, ["kakusan", "train", *words]))


def _parser(recipe: Recipe) -> Parser:
    """Return a parser for a recipe, with the recipe's values as defaults."""
    budget = f"{recipe.steps:,} steps" if recipe.steps is not None else f"{recipe.minutes:g} minutes"
    program, note = f"kakusan train {recipe.name}", f"{recipe.summary}. Default budget: {budget}."
    if recipe.distil is not None:
        defaults: dict[str, Any] = {"distil": recipe.distil, "optim": recipe.optim}
        return Parser(Distill, program, defaults, "--teacher", note)
    defaults = {"data": recipe.data, "model": recipe.model, "optim": recipe.optim}
    return Parser(Train, program, defaults, "--data", note)


def _wanted(recipe: Recipe, command: Train | Distill, out: Path) -> Any:
    from kakusan.data.options import size_named
    from kakusan.run.train import Start

    device = command.device or "auto"
    if command.minutes is not None or command.steps is not None:
        recipe = dataclasses.replace(recipe, minutes=command.minutes, steps=command.steps)
    if isinstance(command, Distill):
        recipe = dataclasses.replace(recipe, distil=command.distil, optim=command.optim)
        return Start(recipe, out, command.seed, device, command.teacher, command.data)
    given = {"size": size_named(command.size), "channels": command.channels, "bad": command.bad_images}
    pictures = dataclasses.replace(recipe.pictures, **given, columns=command.columns, labels=command.labels)
    recipe = dataclasses.replace(recipe, data=command.data, pictures=pictures, model=command.model, optim=command.optim)
    return Start(recipe, out, command.seed, device, init=command.init)


def _launch(words: list[str], command: Processes) -> int:
    """Start several processes with the same arguments, without the launcher's flags; return the exit status."""
    from kakusan.run.launch import launch

    kept, values = [], 0
    for word in words:
        flag, equals, _ = word.partition("=")
        if flag in OF_LAUNCHER:
            values = 0 if equals else 1
        elif values:
            values = 0
        else:
            kept.append(word)
    return launch(["train", *kept], command.devices, command.restarts)
