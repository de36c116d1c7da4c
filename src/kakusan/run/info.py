"""Description of a run directory, a `.safetensors` file or a figure that kakusan made."""

from __future__ import annotations

import shlex
import zlib
from pathlib import Path

from kakusan.console import command
from kakusan.errors import InputError
from kakusan.solvers import all_options
from kakusan.storage import files

MOST_FIGURE_BYTES = 64 * files.MIB
LONGEST_FACT = 200  # characters shown of a fact


def info(path: Path | str) -> list[str]:
    """Describe a run, a weights file or a figure in lines of text; InputError for anything else."""
    path = Path(path)
    if path.is_dir():
        return _run(path)
    if not path.exists():
        raise InputError(f"no file or run at {path}; give a run directory, a .safetensors file or a .png figure")
    if path.suffix == ".safetensors":
        return _weights(path)
    if path.suffix == ".png":
        return _figure(path)
    raise InputError(f"{path}: expected a run directory, a .safetensors file or a .png figure{_hint(path)}")


def _hint(path: Path) -> str:
    if (path.parent / "run.json").is_file():
        return f"; for the run type: {command('info', path.parent)}"
    return f"; for data type: {command('data', path)}"


def _run(path: Path) -> list[str]:
    from kakusan.run.directory import RunDirectory, resume_command
    from kakusan.run.recipe import recipe_of

    run = RunDirectory.open(path)
    record, data = run.read("run.json"), run.read("data.json")
    counts = f"{data['train']:,} for training, {data['held_out']:,} held out"
    lines = [
        f"{path}: {recipe_of(path, record).name}, {record['parameters']:,} parameters, started {record['started']}",
        f"data: {data['name']}, {counts}, shape {tuple(data['event_shape'])}",
    ]
    if run.finished:
        lines += [*run.read("summary.json")["lines"], f"sample it with: {_sample(path)}"]
    else:
        lines.append(f"not finished; resume with: {resume_command(path)}")
    return lines + [f"made by: {shlex.join(words)}" for words in (record["command"], *record.get("resumed", []))]


def _weights(path: Path) -> list[str]:
    from kakusan.run import model_file
    from kakusan.storage import tensors

    if model_file.is_exported(path):
        return _exported(path)
    entries = tensors.header(path).entries
    lines = [
        f"{name:<48}{str(entry.dtype).removeprefix('torch.'):<10}{entry.shape}"
        for name, entry in sorted(entries.items())
    ]
    return [*lines, f"{len(entries)} tensors"]


def _exported(path: Path) -> list[str]:
    """Describe an exported file, which is read completely to detect damage."""
    from kakusan.run import model_file
    from kakusan.storage.tensors import digest

    model = model_file.read(path)
    facts = model.facts
    numbers = sum(tensor.numel() for tensor in model.weights.values())
    guide = ", and early weights for autoguidance" if model.early else ""
    return [
        f"{path}: exported model, recipe {facts.recipe.name}, {numbers:,} numbers{guide}",
        f"data: {facts.data.name}, {facts.data.kind} of shape {facts.event_shape}, sha256 {facts.data.digest}",
        f"made with: {', '.join(f'{name} {version}' for name, version in facts.versions.items())}",
        f"weights {digest(model.weights)}",
        f"sample it with: {_sample(path)}",
        *(f"  {line}" for line in model.card.splitlines()),
    ]


def _figure(path: Path) -> list[str]:
    from PIL import Image

    try:
        files.open_regular(path, MOST_FIGURE_BYTES).close()
        with Image.open(path, formats=("PNG",)) as figure:
            texts = {str(name): str(value) for name, value in figure.info.items()}
            size = f"{figure.width} x {figure.height} {figure.mode}"
    except (
        OSError,
        ValueError,
        SyntaxError,
        MemoryError,
        OverflowError,
        zlib.error,
        Image.DecompressionBombError,
    ) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(f"{path}: not a PNG image ({reason})") from error
    facts = {k.removeprefix("kakusan:"): v[:LONGEST_FACT] for k, v in texts.items() if k.startswith("kakusan:")}
    lines = [f"{path}: {size}", *(f"{name}: {value}" for name, value in facts.items())]
    if {"run", "seed"} <= facts.keys():
        guided = ("label", "guidance", "autoguidance", "end_log_snr")
        known = ("n", "sampler", "steps", "spacing", *all_options(), *guided, "seed")
        flags = [part for name in known if name in facts for part in (f"--{name.replace('_', '-')}", facts[name])]
        lines.append(f"made by: {command('sample', facts['run'], *flags)}")
    return lines


def _sample(path: Path) -> str:
    return command("sample", path, "-n", 64)
