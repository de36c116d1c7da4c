"""kakusan info: what a run, a weights file or a picture is."""

from __future__ import annotations

import shlex
from pathlib import Path

from kakusan.cli import Info
from kakusan.errors import InputError


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
    from kakusan.rundir import RunDirectory

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
        print(f"not finished; go on with: kakusan train --resume {path}")
    for command in (record["command"], *record.get("resumed", [])):
        print(f"made by: {shlex.join(command)}")


def _weights(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  not a mapping
            shapes = {name: (part.get_shape(), part.get_dtype()) for name, part in slices.items()}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a safetensors file ({error})") from error
    for name, (shape, dtype) in sorted(shapes.items()):
        print(f"{name:<48}{dtype:<6}{tuple(shape)}")
    print(f"{len(shapes)} tensors")


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
        flags = "".join(f" --{name} {facts[name]}" for name in ("n", "steps", "sampler", "seed") if name in facts)
        print(f"made by: kakusan sample {facts['run']}{flags}")
