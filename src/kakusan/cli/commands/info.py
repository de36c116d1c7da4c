"""kakusan info: what a run, a weights file or a picture is."""

from __future__ import annotations

import shlex
from pathlib import Path

from kakusan.cli.arguments import Info
from kakusan.errors import InputError

SAMPLE_FLAGS = ("n", "sampler", "steps", "spacing", "eta", "churn", "guidance", "end_log_snr", "seed")


def main(command: Info) -> int:
    """Describe it by its kind."""
    path = command.file
    if path.is_dir():
        _run(path)
    elif not path.is_file():
        raise InputError(f"no file or run at {path}; give a run directory, a .safetensors file or a .png picture")
    elif path.suffix == ".safetensors":
        _weights(path)
    elif path.suffix == ".png":
        _picture(path)
    else:
        raise InputError(f"{path}: expected a run directory, a .safetensors file or a .png picture")
    return 0


def _run(path: Path) -> None:
    from kakusan.run.directory import RunDirectory, to_go_on

    run = RunDirectory.open(path)
    record, data = run.read("run.json"), run.read("data.json")
    print(f"{path}: {record['recipe']['name']}, {record['parameters']:,} parameters, started {record['started']}")
    print(
        f"data: {data['name']}, {data['train']:,} to train, {data['held_out']:,} held out, shape {tuple(data['event_shape'])}"
    )
    if run.finished:
        for line in run.read("summary.json")["lines"]:
            print(line)
        print(f"sample it: kakusan sample {path} -n 64")
    else:
        print(f"not finished; go on with: {to_go_on(path)}")
    for command in (record["command"], *record.get("resumed", [])):
        print(f"made by: {shlex.join(command)}")


def _weights(path: Path) -> None:
    from kakusan.run import model_file
    from kakusan.storage import tensors

    if model_file.is_artefact(path):
        _shared(path)
        return
    entries = tensors.header(path).entries
    for name, entry in sorted(entries.items()):
        print(f"{name:<48}{str(entry.dtype).removeprefix('torch.'):<10}{entry.shape}")
    print(f"{len(entries)} tensors")


def _shared(path: Path) -> None:
    """A file of `kakusan export`: read whole, so that damage shows."""
    from kakusan.run import model_file
    from kakusan.storage.tensors import digest

    shared = model_file.read(path)
    facts = shared.facts
    numbers = sum(tensor.numel() for tensor in shared.weights.values())
    guides = ", and those of the run's beginning, which guide sampling" if shared.early else ""
    print(f"{path}: a model to share, recipe {facts.recipe.name}, {numbers:,} numbers{guides}")
    print(f"data: {facts.data.name}, {facts.data.kind} of shape {facts.event_shape}, sha256 {facts.data.digest}")
    print(f"made with: {', '.join(f'{name} {version}' for name, version in facts.versions.items())}")
    print(f"weights {digest(shared.weights)}")
    print(f"sample it: kakusan sample {path} -n 64")


def _picture(path: Path) -> None:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=("PNG",)) as picture:
            texts = {str(name): str(value) for name, value in picture.info.items()}
            facts = {k.removeprefix("kakusan:"): v for k, v in texts.items() if k.startswith("kakusan:")}
            print(f"{path}: {picture.width} x {picture.height} {picture.mode}")
    except (OSError, UnidentifiedImageError) as error:
        raise InputError(f"{path}: not a PNG picture ({error})") from error
    for name, value in facts.items():
        print(f"{name}: {value}")
    if {"run", "seed"} <= facts.keys():
        flags = "".join(f" --{name.replace('_', '-')} {facts[name]}" for name in SAMPLE_FLAGS if name in facts)
        print(f"made by: kakusan sample {facts['run']}{flags}")
