"""The command line: parse, call, print. torch is imported only by the verbs that need it."""

from __future__ import annotations

import dataclasses
import difflib
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

from kakusan import __version__
from kakusan.commands.flags import as_typed, flags_of, mistake
from kakusan.errors import MISTAKE, InputError, PeerFailed, Stopped, printable
from kakusan.signals import EXIT_STATUS, handled_by, stop

DATA_FILES = "a folder of pictures or of IDX files, or a .npy or .npz file"
PICTURE_FLAGS = {  # for a folder of pictures: type, default, help
    "size": (str | None, None, "of pictures: pixels a side, or height x width, e.g. 48x40; their own unless given"),
    "channels": (Literal[1, 3] | None, None, "of pictures: 1 for grey, 3 for colour; 3 unless all are grey"),
    "bad_images": (Literal["refuse", "skip"], "refuse", "what to do about files that are no usable pictures"),
}
USAGE = """\
kakusan trains, measures and uses generative models under one ELBO.

  kakusan demo                          digits in minutes: trains, samples, evaluates, writes a report
  kakusan train RECIPE [--minutes 3]    train a recipe; --data for your own images or counts
  kakusan train --resume RUN            go on where a run stopped
  kakusan sample RUN -n 64              new examples: a picture and an array
  kakusan evaluate RUN [--json]         bits per dimension with a standard error
  kakusan compare RUN RUN               which of two is better, with the error of the paired difference
  kakusan report RUN                    one HTML page
  kakusan export RUN                    the model as one file to share; sample, evaluate and info take it as a RUN
  kakusan doctor RUN [--json]           whether a run is whole, and what to type to go on
  kakusan replay RUN --step K           do one training step again and show what was in it
  kakusan recipes                       what can be trained, for how long, how well
  kakusan data PATH                     what is in a data file or folder
  kakusan info FILE                     what a run, a checkpoint or a picture is

Each has --help; kakusan train RECIPE --help shows every setting of that recipe.
"""


SHARED = ("sample", "evaluate")  # verbs whose work several processes share, as training does: torchrun -m kakusan ...
Devices = Annotated[int, arg(help="processes on this machine that train together, one for each GPU")]
Restarts = Annotated[int, arg(help="how often to begin again from the last checkpoint after one of them has died")]
Shard = Annotated[bool, arg(help="keep a part of every weight on each of them instead of a copy")]


@dataclass(frozen=True)
class Sample:
    """Draw new examples from a trained run: a picture and an array."""

    run: Positional[Path]
    """The run directory."""
    n: Annotated[int, arg(aliases=["-n"])] = 64
    """How many."""
    steps: int | None = None
    """Steps down the chain, 1 to T; diffusion models only, 20 unless given, 1 for a student. A step is a network call, two in heun;
    where the run's early weights guide it, one more."""
    sampler: str | None = None
    """dpm++2m-sde (the default), dpm++2m, dpm++3m, unipc-2, unipc-3, heun, ddim or ancestral; diffusion models only.
    renoise (its default) for a student."""
    spacing: str | None = None
    """Which steps: karras (the default), log-snr or uniform; diffusion models only."""
    eta: float | None = None
    """Share of fresh noise in ddim, 0 (the default) to 1."""
    churn: float | None = None
    """How much fresh noise in heun, from 0 (the default)."""
    guidance: float | None = None
    """Weight of the guidance by the run's early weights, 1 for none; diffusion models only, the recipe's unless given."""
    seed: int = 0
    """Example i is a function of the seed and i alone."""
    out: Path | None = None
    """Folder for samples.png and samples.npy; samples/RUN-seedS-nN unless given."""
    device: str = "auto"


@dataclass(frozen=True)
class Evaluate:
    """Bits per dimension of a trained run, each example counted once."""

    run: Positional[Path]
    """The run directory."""
    split: Literal["test", "train"] = "test"
    """test is what was held out."""
    limit: int | None = None
    """Only the first so many examples."""
    data: str | None = None
    """Other data of the same shape."""
    importance: int | None = None
    """K of the importance-weighted bound, for VAE and hierarchical VAE."""
    samples: int | None = None
    """Draw so many and measure them beside real pictures, e.g. 10000: Frechet distance, precision, copies and more."""
    features: str | None = None
    """By whose features: digits (the default) or fashion, shipped; or a .npz or .safetensors FILE of features (N, D)
    computed elsewhere, as arrays samples, reference (held out) and, for a floor, train."""
    seed: int = 0
    json: bool = False
    """One JSON object on stdout, and nothing else there."""
    device: str = "auto"


@dataclass(frozen=True)
class Compare:
    """The difference of two runs on the same examples with the same noise: its error leaves out what they share."""

    first: Positional[Path]
    """A run directory."""
    second: Positional[Path]
    """Another one, of the same kind of data."""
    split: Literal["test", "train"] = "test"
    """test is what was held out."""
    limit: int | None = None
    """Only the first so many examples."""
    data: str | None = None
    """Data of the same shape; the first run's own unless given."""
    seed: int = 0
    json: bool = False
    """One JSON object on stdout, and nothing else there."""
    device: str = "auto"


@dataclass(frozen=True)
class Export:
    """Write the model of a run as one file to share: weights and configuration, no paths of this machine."""

    run: Positional[Path]
    """The run directory."""
    out: Path | None = None
    """The file, which must not be there yet; RUN.safetensors in this folder unless given."""


@dataclass(frozen=True)
class Report:
    """Write the page of a finished run."""

    run: Positional[Path]
    """The run directory."""
    out: Path | None = None
    """The file; RUN-report.html in this folder unless given."""


@dataclass(frozen=True)
class Doctor:
    """Check every checkpoint of a run against its checksums, and its data; exit status 1 if something is damaged."""

    run: Positional[Path]
    """The run directory; nothing in it is changed."""
    json: bool = False
    """One JSON object on stdout, and nothing else there."""


@dataclass(frozen=True)
class Replay:
    """Do one step of a run again and show its batch, its loss and its gradient; nothing is written."""

    run: Positional[Path]
    """The run directory."""
    step: int
    """Which, from 1 on."""
    out: Path | None = None
    """A .png file for the pictures of its batch."""
    json: bool = False
    """One JSON object on stdout, and nothing else there."""
    device: str = "auto"


@dataclass(frozen=True)
class Recipes:
    """List what can be trained."""


@dataclass(frozen=True)
class Data:
    """Say what is in a data file or folder, changing nothing."""

    path: Positional[str]
    """mnist, a folder of pictures or of IDX files, or a .npy or .npz file."""
    size: str | None = None
    """Of a folder of pictures: crop and resize to so many pixels a side, or to height x width, e.g. 48x40."""
    channels: Literal[1, 3] | None = None
    """1 for grey, 3 for colour; of a folder of pictures."""


@dataclass(frozen=True)
class Info:
    """Say what a run directory, a .safetensors file or a picture is."""

    file: Positional[Path]


@dataclass(frozen=True)
class Demo:
    """Train the digits DDPM, sample it, evaluate it, and say where to look."""

    out: Path = Path("runs/demo")
    """The run directory. A finished one is shown again, an interrupted one goes on."""
    minutes: float | None = None
    """Training time; the recipe's own unless given."""
    seed: int = 0
    device: str = "auto"


def main(arguments: list[str] | None = None) -> None:
    """Entry point: exits 0, 2 for a user's mistake, 128 + its number after a signal: 130 for Ctrl-C, 143 for SIGTERM."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        with warnings.catch_warnings(), handled_by(stop):
            warnings.showwarning = _show_warning
            status = _dispatch(arguments)
    except PeerFailed as error:
        if os.environ.get("RANK", "0") == "0":
            print(f"kakusan: {error}", file=sys.stderr)
        status = 1
    except InputError as error:
        if os.environ.get("RANK", "0") == "0":  # of several processes that all see the mistake, one says so
            notes = map(printable, getattr(error, "__notes__", ()))  # e.g. a line for each bad file
            print(f"kakusan: {printable(str(error))}", *notes, sep="\n", file=sys.stderr)
        status = MISTAKE
    except Stopped as stopped:
        if os.environ.get("RANK", "0") == "0":
            print("kakusan: interrupted", file=sys.stderr)
        status = EXIT_STATUS + stopped.number
    except BrokenPipeError:  # the reader of our output has gone
        sys.stderr.close()
        status = 1
    sys.exit(status)


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file=None, line: str | None = None
) -> None:
    """One line, as for mistakes; where in our code it arose is of no use to a user."""
    print(f"kakusan: warning: {printable(str(message))}", file=sys.stderr)


def _dispatch(arguments: list[str]) -> int:
    verbs: dict[str, Callable[[list[str]], int]] = {
        "train": _train,
        "sample": lambda rest: _run("sample", Sample, rest),
        "evaluate": lambda rest: _run("evaluate", Evaluate, rest),
        "compare": lambda rest: _run("compare", Compare, rest),
        "report": lambda rest: _run("report", Report, rest),
        "export": lambda rest: _run("export", Export, rest),
        "doctor": lambda rest: _run("doctor", Doctor, rest),
        "replay": lambda rest: _run("replay", Replay, rest),
        "recipes": lambda rest: _run("recipes", Recipes, rest),
        "data": lambda rest: _run("data", Data, rest),
        "info": lambda rest: _run("info", Info, rest),
        "demo": lambda rest: _run("demo", Demo, rest),
    }
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    verb, *rest = arguments
    if verb == "--version":
        print(__version__)
        return 0
    if verb not in verbs:
        near = difflib.get_close_matches(verb, verbs, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(f"no command {verb!r}; {hint}There are: {', '.join(verbs)}")
    return verbs[verb](rest)


def _run(verb: str, kind: type, arguments: list[str]) -> int:
    """Parse, then hand the parsed command to kakusan.commands.VERB.main."""
    import importlib

    command = parse(kind, arguments, f"kakusan {verb}")
    main = importlib.import_module(f"kakusan.commands.{verb}").main
    if verb not in SHARED or os.environ.get("WORLD_SIZE", "1") == "1":
        return main(command)
    from kakusan.train.device import device_named
    from kakusan.train.engine import process_group

    with process_group(device_named(command.device)):
        if os.environ["RANK"] != "0":  # it helps, and the first one speaks
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
        return main(command)


def _train(arguments: list[str]) -> int:
    from kakusan.recipes import RECIPES, find

    arguments = [part for word in arguments for part in (word.split("=", 1) if word.startswith("--") else [word])]
    if "--resume" in arguments:
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
        from kakusan.commands import train

        return train.resume(again)
    name, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if name in ("-h", "--help"):
        print("usage: kakusan train RECIPE [flags]   or   kakusan train --resume RUN [--minutes M or --steps N]\n")
        for recipe in RECIPES.values():
            print(f"  {recipe.name:<18}{recipe.summary}")
        print(
            "\nkakusan train RECIPE --help shows every setting of that recipe, kakusan train --resume --help those of a run."
        )
        return 0
    if name.startswith("-"):
        raise InputError(f"a recipe comes first, got {name!r}; e.g. kakusan train {next(iter(RECIPES))} {name} ...")
    recipe = find(name)
    defaults = _train_command(recipe)
    command = parse(type(defaults), rest, f"kakusan train {name}", defaults)
    _check_launch(command)
    if command.devices > 1:
        out = command.out or _default_out(recipe.name)  # the same for all
        return _launch(["train", *arguments, "--out", str(out)], command.devices, command.restarts)
    from kakusan.commands import train

    try:
        wanted = _start(recipe, command)
    except InputError as error:
        raise InputError(as_typed(str(error))) from error
    return train.start(wanted, ["kakusan", "train", *arguments])


def _check_launch(command) -> None:
    for flag, least in (("devices", 1), ("restarts", 0)):
        if getattr(command, flag) < least:
            raise InputError(f"--{flag} must be at least {least}, got {getattr(command, flag)}")


def _launch(arguments: list[str], devices: int, restarts: int) -> int:
    """Start so many processes with the same arguments, less those that are for this one."""
    from kakusan.commands.launch import launch

    kept = list(arguments)
    for flag in ("--devices", "--restarts"):
        while flag in kept:
            del kept[kept.index(flag) : kept.index(flag) + 2]
    return launch(kept, devices, restarts)


@dataclass(frozen=True)
class Resume:
    """Go on with a run where its newest checkpoint stands."""

    resume: Path
    """The run directory."""
    minutes: float | None = None
    """A new budget, counted from the run's beginning."""
    steps: int | None = None
    """A new budget, counted from the run's beginning."""
    device: str | None = None
    rollback: bool = False
    """Go on with other noise and another order of the data: after too many steps whose loss was not finite."""
    devices: Devices = 1
    restarts: Restarts = 0
    shard: Shard = False


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
        ("teacher", Path | None, None, "a diffusion run, or a file that kakusan export wrote; kept in the run"),
        ("data", str | None, None, "the teacher's own unless given, prepared as they were for it"),
        *_common_flags(recipe),
        ("distil", type(recipe.distil), recipe.distil, None),
        ("optim", type(recipe.optim), recipe.optim, None),
    ]
    return _command_of(recipe, fields)


def _common_flags(recipe):
    return [
        ("out", Path | None, None, "the run directory; runs/RECIPE-DATE-TIME unless given"),
        ("minutes", float | None, None, f"train so long{_own(recipe.minutes)}"),
        ("steps", int | None, None, f"train so many steps instead{_own(recipe.steps)}"),
        ("seed", int, 0, "of weights, batches and noise"),
        ("device", str, "auto", "auto, cpu, cuda or cuda:N; auto takes a GPU if there is one"),
        ("devices", Devices, 1, None),
        ("restarts", Restarts, 0, None),
        ("shard", Shard, False, None),
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
    from kakusan.commands.train import Start
    from kakusan.data.options import Pictures, size_named

    minutes, steps = command.minutes, command.steps
    if minutes is not None and steps is not None:
        raise InputError("give --minutes or --steps, not both")
    if minutes is None and steps is None:
        minutes, steps = recipe.minutes, recipe.steps
    out = command.out or _default_out(recipe.name)
    if recipe.distil is not None:
        changed = dataclasses.replace(recipe, distil=command.distil, optim=command.optim, minutes=minutes, steps=steps)
        return Start(changed, out, command.seed, command.device, command.shard, command.teacher, command.data)
    pictures = Pictures(size_named(command.size), command.channels, command.bad_images)
    recipe = dataclasses.replace(recipe, data=command.data, pictures=pictures)
    changed = dataclasses.replace(recipe, model=command.model, optim=command.optim, minutes=minutes, steps=steps)
    return Start(changed, out, command.seed, command.device, command.shard)


def _default_out(name: str) -> Path:
    import time

    return Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"


def parse(kind: type, arguments: list[str], program: str, default=None):
    """Flags to a dataclass; a mistake is one line and exit 2."""
    import contextlib
    import io

    import tyro

    extra = {} if default is None else {"default": default}
    words = io.StringIO()
    try:
        with contextlib.redirect_stderr(words):
            return tyro.cli(kind, args=arguments, prog=program, config=(FlagCreatePairsOff,), **extra)
    except SystemExit as stop:
        if stop.code != 2:
            raise
        own = _our_own(stop)
        raise InputError(as_typed(str(own)) if own else mistake(words.getvalue(), program, kind)) from None


def _our_own(error: BaseException | None) -> InputError | None:
    """What a setting's own check said, beneath what the parser made of it."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__ or error.__context__
    return error


if __name__ == "__main__":
    main()
