"""kakusan train as it is typed: a recipe and its settings, or a run to go on with. No torch before they are found right."""

from __future__ import annotations

import dataclasses
import shlex
import time
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from kakusan.cli.arguments import Channels, Device, Devices, Number, Place, Restarts, Resume, Text, Whole
from kakusan.cli.flags import as_typed, flags_of, parse
from kakusan.errors import InputError
from kakusan.recipes import RECIPES, find

DATA_FILES = "a folder of pictures or of IDX files, or a .npy or .npz file"
PICTURE_FLAGS = {  # for a folder of pictures: type, default, help
    "size": (Text, None, "of pictures: pixels a side, or height x width, e.g. 48x40; their own unless given"),
    "channels": (Channels, None, "of pictures: 1 for grey, 3 for colour; 3 unless all are grey"),
    "bad_images": (Literal["refuse", "skip"], "refuse", "what to do about files that are no usable pictures"),
}


def main(arguments: list[str]) -> int:
    """Begin a run, go on with one, or say how that is typed; the exit status."""
    arguments = [part for word in arguments for part in (word.split("=", 1) if word.startswith("--") else [word])]
    if "--resume" in arguments:
        return _go_on(arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0
    return _begin(arguments)


def _usage() -> str:
    return "\n".join(
        [
            "usage: kakusan train RECIPE [flags]   or   kakusan train --resume RUN [--minutes M or --steps N]",
            "",
            *(f"  {recipe.name:<18}{recipe.summary}" for recipe in RECIPES.values()),
            "",
            "kakusan train RECIPE --help shows every setting of that recipe, kakusan train --resume --help those of a run.",
        ]
    )


def _go_on(arguments: list[str]) -> int:
    if arguments[0] in RECIPES:
        raise InputError(f"a run keeps its own recipe; type: kakusan train {' '.join(arguments[1:])}")
    if "--help" in arguments or "-h" in arguments:
        arguments = ["--help"]
    for word in arguments:
        if word.startswith("--") and word != "--help" and word not in flags_of(Resume):
            allowed = ", ".join(flag for flag in flags_of(Resume) if flag != "--resume")
            raise InputError(f"a run keeps its own data and settings, {word} among them; --resume takes {allowed}")
    again = parse(Resume, arguments, "kakusan train")
    _check_launch(again)
    if again.devices > 1:
        return _launch(["train", *arguments], again.devices, again.restarts)
    from kakusan.cli.commands.train import resume
    from kakusan.run.train import Resume as Wanted

    return resume(Wanted(again.resume, again.minutes, again.steps, again.device, again.rollback, again.data))


def _begin(arguments: list[str]) -> int:
    name, *rest = arguments
    if name.startswith("-"):
        raise InputError(f"a recipe comes first, got {name!r}; e.g. kakusan train {next(iter(RECIPES))} {name} ...")
    recipe = find(name)
    if rest and not rest[0].startswith("-"):
        what, flag = ("data are", "--data") if recipe.distil is None else ("a teacher is", "--teacher")
        raise InputError(f"{what} named after {flag}, type: kakusan train {name} {flag} {shlex.join(rest)}")
    defaults = _train_command(recipe)
    command = parse(type(defaults), rest, f"kakusan train {name}", defaults)
    _check_launch(command)
    if command.devices > 1:
        out = command.out or _default_out(recipe.name)  # the same for all
        return _launch(["train", *arguments, "--out", str(out)], command.devices, command.restarts)
    from kakusan.cli.commands.train import start

    try:
        wanted = _start(recipe, command)
    except InputError as error:
        raise InputError(as_typed(str(error))) from error
    return start(wanted, ["kakusan", "train", *arguments])


def _check_launch(command) -> None:
    for flag, least in (("devices", 1), ("restarts", 0)):
        if getattr(command, flag) < least:
            raise InputError(f"--{flag} must be at least {least}, got {getattr(command, flag)}")


def _launch(arguments: list[str], devices: int, restarts: int) -> int:
    """Start so many processes with the same arguments, less those that are for this one."""
    from kakusan.run.launch import launch

    kept = list(arguments)
    for flag in ("--devices", "--restarts"):
        while flag in kept:
            del kept[kept.index(flag) : kept.index(flag) + 2]
    return launch(kept, devices, restarts)


def _train_command(recipe):
    """The flags of one recipe, with its own values as defaults."""
    if recipe.distil is not None:
        return _student_command(recipe)
    fields = [
        ("data", str, recipe.data, f"mnist, mnist-binary, mnist-labels, {DATA_FILES}"),
        *((name, hint, default, text) for name, (hint, default, text) in PICTURE_FLAGS.items()),
        *_common_flags(recipe),
        ("model", type(recipe.model), recipe.model, None),
        ("optim", type(recipe.optim), recipe.optim, None),
    ]
    return _command_of(recipe, fields)


def _student_command(recipe):
    """The flags of a recipe for students: its model and its data are its teacher's."""
    fields = [
        ("teacher", Place, None, "a diffusion run, or a file that kakusan export wrote; kept in the run"),
        ("data", Text, None, "the teacher's own unless given, prepared as they were for it"),
        *_common_flags(recipe),
        ("distil", type(recipe.distil), recipe.distil, None),
        ("optim", type(recipe.optim), recipe.optim, None),
    ]
    return _command_of(recipe, fields)


def _common_flags(recipe):
    return [
        ("out", Place, None, "the run directory; runs/RECIPE-DATE-TIME unless given"),
        ("minutes", Number, None, f"train so long{_own(recipe.minutes)}"),
        ("steps", Whole, None, f"train so many steps instead{_own(recipe.steps)}"),
        ("seed", int, 0, "of weights, batches and noise"),
        ("device", Device, "auto", None),
        ("devices", Devices, 1, None),
        ("restarts", Restarts, 0, None),
    ]


def _command_of(recipe, fields):
    kind = dataclasses.make_dataclass(
        "Train",
        [
            (name, Annotated[hint, arg(help=text)] if text else hint, dataclasses.field(default_factory=lambda v=v: v))
            for name, hint, v, text in fields
        ],
        frozen=True,
    )
    kind.__doc__ = f"{recipe.summary}."
    return kind()


def _own(amount) -> str:
    return "" if amount is None else f"; {amount:,} unless told otherwise"


def _start(recipe, command):
    from kakusan.data.options import Pictures, size_named
    from kakusan.run.train import Start

    minutes, steps = command.minutes, command.steps
    if minutes is not None and steps is not None:
        raise InputError("give --minutes or --steps, not both")
    if minutes is None and steps is None:
        minutes, steps = recipe.minutes, recipe.steps
    out = command.out or _default_out(recipe.name)
    if recipe.distil is not None:
        changed = dataclasses.replace(recipe, distil=command.distil, optim=command.optim, minutes=minutes, steps=steps)
        return Start(changed, out, command.seed, command.device, command.teacher, command.data)
    pictures = Pictures(size_named(command.size), command.channels, command.bad_images)
    recipe = dataclasses.replace(recipe, data=command.data, pictures=pictures)
    changed = dataclasses.replace(recipe, model=command.model, optim=command.optim, minutes=minutes, steps=steps)
    return Start(changed, out, command.seed, command.device)


def _default_out(name: str) -> Path:
    return Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
