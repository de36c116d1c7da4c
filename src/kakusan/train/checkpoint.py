"""Checkpoints: safetensors and JSON in a directory that appears whole or not at all. No pickle."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from kakusan.errors import InputError
from kakusan.train.loop import State, Trainer

KEPT = 2


def save(trainer: Trainer, folder: Path) -> Path:
    """Write folder/step-NNNNNNNN and drop all but the newest two; on the disk when this returns.

    NonFiniteLossError, and nothing written, if the loss has not been finite.
    """
    trainer.check_finite()
    final = folder / f"step-{trainer.state.step:08d}"
    if final.exists():  # the same step, hence the same state
        return final
    draft = folder / f".draft-{final.name}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    _write_tensors(draft / "model.safetensors", trainer.module.state_dict())
    _write_tensors(draft / "ema.safetensors", trainer.ema.module.state_dict())
    _write_tensors(draft / "optimizer.safetensors", trainer.optimizers.tensors())
    if trainer.early is not None:
        _write_tensors(draft / "early.safetensors", trainer.early)
    _write_synced(draft / "state.json", json.dumps(asdict(trainer.state), indent=1).encode())
    _sync(draft)
    draft.rename(final)
    _sync(folder)
    for old in _checkpoints(folder)[:-KEPT]:
        shutil.rmtree(old)
    return final


def restore(trainer: Trainer, folder: Path) -> None:
    """Take up the newest checkpoint of a run; InputError, with what to type, if it is damaged."""
    newest = latest(folder)
    device = str(trainer.device)
    state = read_state(folder)
    try:
        trainer.module.load_state_dict(load_file(newest / "model.safetensors", device=device))
        trainer.ema.module.load_state_dict(load_file(newest / "ema.safetensors", device=device))
        trainer.optimizers.load(load_file(newest / "optimizer.safetensors", device=device))
        early = early_weights(folder)
    except (OSError, SafetensorError, RuntimeError, KeyError, ValueError) as error:
        raise damaged(folder, error) from error
    trainer.early = early and {name: value.to(trainer.device) for name, value in early.items()}
    trainer.state = state


def read_state(folder: Path) -> State:
    """Where the newest checkpoint stands; InputError if it is damaged."""
    try:
        return State(**json.loads((latest(folder) / "state.json").read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise damaged(folder, error) from error


def damaged(folder: Path, error: Exception) -> InputError:
    """What to say of a newest checkpoint that cannot be read."""
    *older, newest = _checkpoints(folder)
    way = f"go on from {older[-1].name}" if older else "begin the run anew"
    return InputError(
        f"the newest checkpoint {newest} is damaged ({str(error).splitlines()[0]}); delete that folder to {way}"
    )


def averaged_weights(folder: Path) -> dict[str, Tensor]:
    """The averaged weights of the newest checkpoint: those a model is used with."""
    return load_file(latest(folder) / "ema.safetensors")


def early_weights(folder: Path) -> dict[str, Tensor] | None:
    """The averaged weights that the newest checkpoint keeps of the run's beginning, if it does."""
    path = latest(folder) / "early.safetensors"
    return load_file(path) if path.exists() else None


def exists(folder: Path) -> bool:
    """Whether there is a checkpoint to take up; a run that was killed at once has none and begins anew."""
    return bool(_checkpoints(folder))


def latest(folder: Path) -> Path:
    """The newest checkpoint; InputError if there is none."""
    found = _checkpoints(folder)
    if not found:
        raise InputError(f"{folder.parent} holds no checkpoint yet; train it first, or delete it")
    return found[-1]


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if path.is_dir()) if folder.is_dir() else []


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
