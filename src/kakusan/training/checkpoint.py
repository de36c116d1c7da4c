"""Checkpoints: safetensors and JSON in folders that appear complete or not at all; no pickle.

The newest intact checkpoint is used. A damaged one is reported and left unchanged; `kakusan doctor` lists the damage.
A run that resumes from an earlier checkpoint renames a damaged one first, so that it is never used again.

To verify a checkpoint, all of it must be read, so each is verified once. `latest` returns an intact one; functions that
take a `checkpoint` do not verify it again. A save receives the checkpoints `known` to be intact.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kakusan import distributed
from kakusan.console import command
from kakusan.errors import DamageWarning, InputError, SaveError
from kakusan.run.directory import resume_command
from kakusan.storage import commit, files
from kakusan.storage import tensors as storage
from kakusan.training.loop import Trainer
from kakusan.training.state import State

KEPT = 2
MOST_COPIES = 5  # of a module in a checkpoint: weights, averaged weights, early weights and two optimizer moments
SUFFIX = ".safetensors"
SHARD = re.compile(r"(?P<stem>\w+)\.(?P<rank>\d+)-of-\d+")  # files of sharded runs (version 0.3)
STATE = "state.json"
Tensors = dict[str, dict[str, Tensor]]  # file name without its ending -> tensor name -> tensor


def write(folder: Path, step: int, tensors: Tensors, state: Mapping[str, Any], known: Collection[Path] = ()) -> Path:
    """Write folder/step-NNNNNNNN durably, and remove all but the newest two intact checkpoints.

    All ranks must call it together; rank 0 writes.

    Args:
        folder: Folder of all checkpoints; created if missing.
        step: Step of the state.
        tensors: Tensors by file and name, on any device.
        state: Other values that resuming needs, as JSON.
        known: Checkpoints that this process has verified or written.

    Raises:
        SaveError: If writing fails; the message states the bytes needed and free. Earlier checkpoints are unchanged.
        InputError: If a tensor is not finite; nothing is written then.
    """
    distributed.on_rank0(lambda: _write(folder, _path(folder, step), tensors, state, known))
    return _path(folder, step)


def _write(folder: Path, final: Path, tensors: Tensors, state: Mapping[str, Any], known: Collection[Path]) -> None:
    try:
        files.make_folders(folder)
        if _has_its_place(final):  # it has the same step, hence the same state
            files.sync_folder(folder)
        else:
            with commit.Draft(folder, final.name) as draft:
                for stem, named in tensors.items():
                    draft.write(stem + SUFFIX, storage.to_bytes(named))
                draft.write(STATE, json.dumps(state, indent=1).encode())
                draft.publish()
    except OSError as error:
        raise _save_error(final, error, _size(tensors)) from error
    _prune(folder, final, {*known, final})


def _path(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}"


def _prune(folder: Path, final: Path, known: Collection[Path]) -> None:
    try:
        commit.prune(folder, KEPT, known)
    except OSError as error:
        words = (
            f"{final} is saved, but an older checkpoint cannot be removed ({error.strerror}); the next save tries again"
        )
        warnings.warn(words, DamageWarning, stacklevel=5)


def save(trainer: Trainer, folder: Path, known: Collection[Path] = ()) -> Path:
    """Write the state of a trainer, and return its folder; see `write`."""
    tensors, state = trainer.snapshot()
    return write(folder, trainer.state.step, tensors, state, known)


def restore(trainer: Trainer, folder: Path, at_most: int | None = None) -> None:
    """Load the newest intact checkpoint. InputError if it does not fit; the trainer is then unchanged.

    Args:
        trainer: A trainer with the settings of the one that was saved.
        folder: Folder of all checkpoints.
        at_most: Largest step to load. If there is no such checkpoint, the trainer stays at step 0.
    """
    newest = latest(folder) if at_most is None else commit.newest_good(folder, at_most)[0]
    if newest is not None:
        load(trainer, newest)


def load(trainer: Trainer, checkpoint: Path) -> None:
    """Load an intact checkpoint. InputError if it does not fit; the trainer is then unchanged."""
    expected = {
        "model": _kinds(trainer.module.state_dict()),
        "ema": _kinds(trainer.ema.tensors),
        "optimizer": _kinds_in_optimizer(checkpoint, trainer.module),
    }
    if (checkpoint / f"early{SUFFIX}").exists():
        expected["early"] = expected["ema"]
    tensors = {stem: _read(checkpoint, stem, kinds) for stem, kinds in expected.items()}
    trainer.restore(tensors, state_of(checkpoint))


def rename_newer(checkpoint: Path) -> None:
    """Rename the damaged checkpoints that are newer than this intact one; nothing is removed.

    Only the writer of a run calls this, before it resumes. Otherwise a file that becomes readable again could count as
    the newest checkpoint, although other steps have been trained since.
    """
    folder = checkpoint.parent
    newer = [path for path in commit.published(folder) if commit.step_of(path) > commit.step_of(checkpoint)]
    try:
        for path in newer:
            aside = commit.set_aside(path)
            warnings.warn(f"the damaged checkpoint {path} is kept as {aside.name}", DamageWarning, stacklevel=1)
        if newer:
            files.sync_folder(folder)
    except OSError as error:
        raise SaveError(
            f"cannot rename a damaged checkpoint in {folder} ({error.strerror}); make it writable"
        ) from error


def averaged_weights(checkpoint: Path) -> dict[str, Tensor]:
    """Read the averaged weights of a checkpoint from `latest`, which sampling and evaluation use."""
    return _read(checkpoint, "ema")


def early_weights(checkpoint: Path) -> dict[str, Tensor] | None:
    """Read the averaged weights from early in the run; None if the checkpoint has none."""
    return _read(checkpoint, "early") if (checkpoint / f"early{SUFFIX}").exists() else None


def exists(folder: Path) -> bool:
    """Return whether there is a checkpoint, intact or damaged. A run killed before its first save has none."""
    return bool(commit.published(folder))


def latest(folder: Path) -> Path:
    """Return the newest intact checkpoint, and warn (DamageWarning) of newer damaged ones; InputError if none is intact."""
    newest, damaged_ones = commit.newest_good(folder)
    if newest is None and not damaged_ones:
        raise InputError(f"{folder.parent} holds no checkpoint; resume with: {resume_command(folder.parent)}")
    if newest is None:
        path, problem = damaged_ones[0]
        raise InputError(
            f"no checkpoint of {folder.parent} is intact, the newest is {path.name}: {problem}; resume with: "
            f"{restart_command(folder)}"
        )
    for path, problem in damaged_ones:
        words = f"the checkpoint {path} is damaged ({problem}) and left as it is; using {newest.name}; "
        words += f"to see how to resume, type: {command('doctor', folder.parent)}"
        warnings.warn(words, DamageWarning, stacklevel=1)  # one call site, so that Python shows each warning once
    return newest


def restart_command(folder: Path) -> str:
    """Return the command that restarts a run without an intact checkpoint. It keeps damaged ones under another name."""
    return resume_command(folder.parent, (folder, folder.with_name("damaged")))


def check_room(folder: Path, module: nn.Module) -> None:
    """Raise InputError unless the disk of an existing folder has room for one more checkpoint than a run keeps."""
    largest = MOST_COPIES * _size({"model": module.state_dict()})
    there = sum(file.stat().st_size for path in commit.published(folder) for file in path.iterdir())
    needed, free = (KEPT + 1) * largest - there, files.free_bytes(folder)
    if free < needed:
        raise InputError(
            f"{folder} needs up to {needed:,} bytes for {KEPT + 1} checkpoints and its disk has {free:,} free; "
            "free some, or choose another --out"
        )


def _has_its_place(final: Path) -> bool:
    """Return whether this checkpoint exists and is intact; a damaged one is renamed."""
    if final.exists() and commit.verify(final):
        aside = commit.set_aside(final)
        warnings.warn(f"the checkpoint {final} is damaged; it is kept as {aside.name}", DamageWarning, stacklevel=3)
    return final.exists()


def _save_error(final: Path, error: OSError, needed: int) -> SaveError:
    return SaveError(
        f"cannot save {final} ({error.strerror}); it needs {needed:,} bytes, {files.free_words(final.parent)}; "
        "earlier checkpoints are unchanged"
    )


def _size(tensors: Tensors) -> int:
    return sum(tensor.numel() * tensor.element_size() for named in tensors.values() for tensor in named.values())


def state_of(checkpoint: Path) -> State:
    """Read the state of an intact checkpoint."""
    try:
        return State(**json.loads(files.read_regular(checkpoint / STATE, 16 * files.MIB)))
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{checkpoint / STATE} is not what this version of kakusan writes ({error}); "
            "use the version that made the run, which run.json names"
        ) from error


def _paths(checkpoint: Path, stem: str) -> list[Path]:
    there = [path.name.removesuffix(SUFFIX) for path in checkpoint.glob(f"*{SUFFIX}")]
    return [checkpoint / (name + SUFFIX) for name in _files_of(stem, there)]


def _read(checkpoint: Path, stem: str, expected: storage.Expected | None = None) -> dict[str, Tensor]:
    """Read the tensors of one file, or of its shards merged."""
    paths = _paths(checkpoint, stem)
    if len(paths) == 1:
        return storage.read(paths[0], expected)[0]
    tensors = _joined([storage.read(path)[0] for path in paths])
    if expected is not None:
        storage.check_expected(_kinds(tensors), expected, checkpoint / stem)
    return tensors


def _files_of(stem: str, names: Iterable[str]) -> list[str]:
    """Return the names of the files of a stem: one, or one per rank of a sharded run (version 0.3)."""
    matches = [match for match in map(SHARD.fullmatch, names) if match and match["stem"] == stem]
    return [match[0] for match in sorted(matches, key=lambda match: int(match["rank"]))] or [stem]


def _joined(shards: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Merge shards of consecutive rows; tensors that were not sharded are only in the first file."""
    first, *others = shards
    return {
        name: torch.cat([tensor, *(other[name] for other in others)]) if others and name in others[0] else tensor
        for name, tensor in first.items()
    }


def _kinds(tensors: Mapping[str, Tensor]) -> storage.Expected:
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}


def _kinds_in_optimizer(checkpoint: Path, module: nn.Module) -> storage.Expected:
    """Return the expected shapes in a file of optimizer state: slot.weight has the shape of the trained weight."""
    trained = _kinds({name: p for name, p in module.named_parameters() if p.requires_grad})
    kinds = {}
    for name in storage.header(_paths(checkpoint, "optimizer")[0]).entries:
        slot, _, weight = name.partition(".")
        if weight in trained:
            kinds[name] = ((1,), torch.float32) if slot == "step" else trained[weight]
    return kinds
