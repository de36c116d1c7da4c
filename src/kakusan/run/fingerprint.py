"""Fingerprint of a run: settings, seed, data and versions, and the effect of a change of each on resuming."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from pathlib import Path

import numpy as np
import torch

import kakusan
from kakusan.errors import InputError
from kakusan.run.recipe import Recipe

# a run with changes of these is not resumed; other changes only affect rounding
IDENTITY = {"recipe": "the settings in run.json", "seed": "the seed in run.json", "data": "the data"}

A_GROUP = "threads a group"
WORDS = {A_GROUP: "threads per micro-batch", "processes": "ranks"}

# settings that older runs do not record, each with the value that has the old behavior
LATER = {
    "": {"distil": None},
    "model": {
        "network": "unet",
        "patch": 4,
        "begin": None,
        "clusters": 0,
        "end_log_snr": None,
        "condition": None,
        "classes": (),
        "label_dropout": 0.1,
        "fold": 2,
        "refine": 0,
        "checkpointing": False,
        "plan": "fixed",
    },
    "pictures": {"labels": None, "columns": None},
    "optim": {"augment": "none", "precision": "float32", "compile": "none"},
}

# removed settings, each with the value that is now always used
FORMER = {"distil": {"calls": 1, "first_share": None}}


def versions(device: torch.device) -> dict[str, str]:
    """Return the versions and the hardware on which the exact numbers of a run depend."""
    return {
        "kakusan": kakusan.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "threads": str(torch.get_num_threads()),
        "machine": f"{platform.system()} {platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }


def origin(
    recipe: Recipe,
    seed: int,
    data_digest: str,
    device: torch.device,
    processes: int = 1,
    parallel: int = 1,
    first_data: str = "",
) -> dict[str, str]:
    """Return the fingerprint of a checkpoint: settings without the budget, seed, data and versions.

    It includes the number of ranks only with more than two micro-batches, where ranks change the order of a sum. It also
    includes the number of threads that compute a micro-batch.

    Args:
        recipe: Settings of the run.
        seed: Random seed of the run.
        data_digest: Digest of the data.
        device: Device of training.
        processes: Number of ranks.
        parallel: Number of micro-batches computed in parallel.
        first_data: Path of the data when the run was started, if it has changed.
    """
    settings = dataclasses.replace(recipe, minutes=None, steps=1, data=first_data or recipe.data).record()
    for place, neutral in LATER.items():
        part = settings.get(place) or {} if place else settings
        for name, value in neutral.items():
            if name in part and part[name] == value:
                del part[name]
    for place, values in FORMER.items():
        if settings.get(place):
            settings[place] |= values
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    order = {"processes": str(processes)} if recipe.optim.num_groups > 2 else {}
    order[A_GROUP] = str(max(1, torch.get_num_threads() // parallel))
    return {"recipe": digest, "seed": str(seed), "data": data_digest, **versions(device), **order}


def check_origin(path: Path, before: dict[str, str], now: dict[str, str]) -> list[str]:
    """List the changes as text; a run with such changes resumes, but not bit-exactly.

    Raises:
        InputError: If settings, seed or data have changed, because that would be another run.
    """
    before = {
        A_GROUP: before.get("threads", "unknown"),
        **before,
    }  # older versions computed one micro-batch at a time, on all threads
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    for name in changed:
        if name in IDENTITY:
            raise InputError(
                f"{IDENTITY[name]} have changed since the checkpoint of {path} was trained; restore them, or start a new "
                "run with another --out"
            )
    return [
        f"{WORDS.get(name, name)} changed from {before.get(name, 'unknown')} to {now.get(name, 'unknown')}"
        for name in changed
    ]
