"""Functions of the commands: call `run` and print the result. Each imports what it needs, so that help is instant."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kakusan.cli import arguments
from kakusan.cli.parser import naming_flags
from kakusan.console import command as typed
from kakusan.console import counted, entry, say, tell
from kakusan.errors import InputError

if TYPE_CHECKING:
    from kakusan.cli.ladder import Ladder
    from kakusan.data.dataset import Dataset
    from kakusan.run.directory import RunDirectory
    from kakusan.run.train import Outcome

DAMAGED, DIFFERENT = 1, 1  # exit status of doctor, and of check-against
DEMO = "mnist-ddpm"


def sample(command: arguments.Sample) -> int:
    """Draw and write samples, and print the names of the files."""
    from kakusan.run.sample import MOST_SHOWN, sample

    choices = {**_without(command, "run", "n", "options"), **command.options}
    drawn = sample(command.run, command.n, **choices)
    if drawn.network_evaluations:
        number = drawn.network_evaluations
        tell(f"{number:g} network evaluation{'' if number == 1 else 's'} per sample")
    if command.n > MOST_SHOWN and len(drawn.files) > 1:
        tell(f"samples.png shows the first {MOST_SHOWN}; samples.npy holds all {counted(command.n, 'sample')}")
    say(*map(str, drawn.files))
    return 0


def evaluate(command: arguments.Evaluate) -> int:
    """Evaluate a model and print the result."""
    from kakusan.run.evaluate import evaluate

    return _print(evaluate(**_without(command, "json")), command.json)


def classify(command: arguments.Classify) -> int:
    """Classify examples and print a table; the accuracy goes to stderr."""
    from kakusan.run.bayes import classify

    found = classify(command.run, command.data, **_without(command, "run", "data", "json"))
    if command.json:
        say(json.dumps(found.record() | {"examples": found.examples()}))
        return 0
    say(*found.table().splitlines())
    for line in found.lines():
        tell(line.strip())
    return 0


def compare(command: arguments.Compare) -> int:
    """Compare two runs and print the difference."""
    from kakusan.run.compare import compare

    return _print(compare(**_without(command, "json")), command.json)


def score(command: arguments.Score) -> int:
    """Score examples, print the strangest, and write the requested files."""
    from kakusan.run.tools.score import score

    return _print(score(**_without(command, "json")), command.json)


def encode(command: arguments.Encode) -> int:
    """Write latents and print the name of the file."""
    from kakusan.run.tools.encode import encode_file

    shape = encode_file(**_without(command))
    tell(f"latents {shape}")
    say(str(command.out))
    return 0


def reconstruct(command: arguments.Reconstruct) -> int:
    """Write reconstructions and print the names of the files."""
    from kakusan.run.tools.reconstruct import reconstruct_files

    say(*map(str, reconstruct_files(**_without(command))))
    return 0


def interpolate(command: arguments.Interpolate) -> int:
    """Write an interpolation and print the name of the file."""
    from kakusan.run.tools.interpolate import interpolate_file

    say(str(interpolate_file(**_without(command))))
    return 0


def replay(command: arguments.Replay) -> int:
    """Repeat a training step and print its batch, loss and gradient."""
    from kakusan.run.replay import replay

    return _print(replay(**_without(command, "json")), command.json)


def doctor(command: arguments.Doctor) -> int:
    """Print the findings, and return 1 if something is damaged."""
    from kakusan.run.doctor import examine

    findings = examine(command.run)
    return _print(findings, command.json) or (DAMAGED if findings.damaged else 0)


def report(command: arguments.Report) -> int:
    """Write the report outside of the run and print its path."""
    from kakusan.run.report.page import write_report

    say(str(write_report(command.run, command.out, command.lang)))
    return 0


def export(command: arguments.Export) -> int:
    """Write the file or folder and print its path."""
    from kakusan.exchange.export import export

    done = export(command.run, command.out, command.format)
    for line in (f"{done.size:,} bytes", *done.lines):
        tell(line)
    say(str(done.path))
    return 0


def import_(command: arguments.Import) -> int:
    """Write the file or the run and print its path."""
    from kakusan.exchange.import_model import import_model

    flags = ["--data", command.data] if command.data else []
    words = ["kakusan", "import", str(command.folder), "--out", str(command.out), *flags]
    model = import_model(command.folder, command.out, command.data, command.device, words)
    tell(f"{model!r}")
    tell(
        f"sample it with: {typed('sample', command.out)}; measure it with: {typed('evaluate', command.out, '--data', command.data or 'PATH')}"
    )
    say(str(command.out))
    return 0


def check_against(command: arguments.CheckAgainst) -> int:
    """Print the differences, and return 1 if they are too large."""
    from kakusan.exchange.check_against import check_against

    found = check_against(command.against, command.run)
    return _print(found, command.json) or (0 if found.agrees else DIFFERENT)


def info(command: arguments.Info) -> int:
    """Print the description of a file."""
    from kakusan.run.info import info

    say(*info(command.file))
    return 0


def recipes(command: arguments.Recipes) -> int:
    """Print each recipe with its model family, data and budget."""
    from kakusan.recipes import RECIPES

    for recipe in RECIPES.values():
        budget = f"{recipe.steps:,} steps" if recipe.steps is not None else f"{recipe.minutes:g} minutes"
        text = f"{recipe.summary}. Model: {recipe.family}. Data: {recipe.data}. Budget: {budget}."
        say(*entry(recipe.name, text).splitlines())
    say("", f"{typed('train', 'RECIPE', '--help')} lists all settings of a recipe.")
    return 0


def data(command: arguments.Data) -> int:
    """Read the data as training would, and print a description and the command that trains on them."""
    from kakusan.data.cache import NAME
    from kakusan.data.open import lasting, open_data
    from kakusan.data.options import ImageOptions, size_named

    if command.forget:
        from kakusan.data.cache import forget

        root = command.cache or Path("runs") / NAME
        say(f"{forget(root, Path(lasting(command.path))):,} bytes deleted in {root}")
        return 0
    with naming_flags():
        options = ImageOptions(
            size_named(command.size), command.channels, bad="skip", columns=command.columns, labels=command.labels
        )
        options = dataclasses.replace(options, fit=True, cache=str(command.cache.absolute()) if command.cache else None)
    dataset = open_data(command.path, options, tell)
    flags = [
        part
        for name in ("size", "channels", "columns", "labels")
        if (v := getattr(command, name))
        for part in (f"--{name}", str(v))
    ]
    flags += ["--bad-images", "skip"] if dataset.skipped else []
    if command.figure is not None:
        from kakusan.run.data_report import write_figure

        write_figure(dataset, command.figure)
        tell(f"{command.figure} shows training {dataset.form.unit}")
    say(*_described(dataset))
    recipe = dataset.form.recipe(dataset)
    if dataset.form.has_pixels:
        from kakusan.recipes import RECIPES
        from kakusan.run.data_report import image_lines

        say(*image_lines(dataset))
        if "cropped" in dataset.prepared and command.size is None and not RECIPES[recipe].pictures.fit:
            flags += ["--size", "x".join(map(str, dataset.event_shape[1:]))]  # only recipes with `fit` choose a size
    say(f"train on it with: {typed('train', recipe, '--data', command.path, *flags)}")
    return 0


def _described(dataset: Dataset) -> list[str]:
    from kakusan.data.cautions import cautions

    lines = [dataset.contents] if dataset.contents else []
    if dataset.skipped:
        lines.append(f"{counted(len(dataset.skipped), 'unusable file')}:")
        lines += [f"  {name}: {reason}" for name, reason in dataset.skipped.items()]
    facts = [dataset.split(), dataset.labels(), *dataset.prepared.split("; ")]
    facts += dataset.form.facts(dataset)
    lines.append(f"{dataset.name}: {dataset.examples()}")
    return [*lines, *(f"  {fact}" for fact in facts if fact), f"  SHA-256 {dataset.digest()}", *cautions(dataset)]


def demo(command: arguments.Demo) -> int:
    """Train the demo, resume it, or show the finished run again."""
    from kakusan.recipes import find
    from kakusan.run.directory import RunDirectory
    from kakusan.run.train import Resume, Start, resume, start

    path, recipe = command.out, find(DEMO)
    if not (path / "run.json").exists():
        words = ["kakusan", "demo", "--out", str(path), "--seed", str(command.seed)]
        if command.minutes is not None and command.steps is not None:
            raise InputError("give --minutes or --steps, not both")
        if command.minutes is not None or command.steps is not None:
            recipe = dataclasses.replace(recipe, minutes=command.minutes, steps=command.steps)
            name, value = ("minutes", command.minutes) if command.steps is None else ("steps", command.steps)
            words += [f"--{name}", str(value)]
        return concluded(start(Start(recipe, path, command.seed, command.device), words))
    run = RunDirectory.open(path)
    name = run.read("run.json")["recipe"].get("name")
    if name != DEMO:
        raise InputError(f"{path} holds a run of {name}, not the demo's {DEMO}; choose another --out")
    if not run.finished:
        tell(f"{path} was interrupted; resuming with its own settings")
        return concluded(resume(Resume(path)))
    say(f"{path} is finished; delete it to train again")
    return _print_summary(run)


def ladder(command: Ladder) -> int:
    """Train or resume the rungs, and print their table and the path of the page."""
    from kakusan.data.options import size_named
    from kakusan.run.ladder import DEFAULT_MINUTES, Wanted, climb, lines
    from kakusan.run.report.ladder import write_page
    from kakusan.signals import EXIT_STATUS

    given = _without(command, "size", "lang", "json", "minutes")
    with naming_flags():
        size = size_named(command.size)
    minutes = DEFAULT_MINUTES if command.minutes is None and command.steps is None else command.minutes
    found = climb(Wanted(size=size, minutes=minutes, **given))
    if isinstance(found, int):
        return EXIT_STATUS + found
    page = write_page(command.out, found, command.lang)
    say(*([json.dumps(found)] if command.json else [*lines(found), "", f"look at {page}"]))
    return 0


def concluded(outcome: Outcome) -> int:
    """Print the numbers of a session that has ended, and return the exit status."""
    from kakusan.signals import EXIT_STATUS

    if outcome.stopped_by:
        return EXIT_STATUS + outcome.stopped_by
    return _print_summary(outcome.run) if outcome.is_rank0 else 0


def _print_summary(run: RunDirectory) -> int:
    summary = run.read("summary.json")
    say(*summary["lines"], "", f"look at   {run.report}", f"then try  {typed('sample', run.path, '-n', 100)}", "")
    say(f"weights {summary['weights_sha256']}")
    return 0


def _print(found: Any, as_json: bool) -> int:
    """Print a result as lines of text, or as a single JSON object."""
    say(*([json.dumps(found.record())] if as_json else found.lines()))
    return 0


def _without(command: Any, *names: str) -> dict[str, Any]:
    """Return the flags of a command, except some, as keyword arguments."""
    return {name: value for name, value in vars(command).items() if name not in names}
