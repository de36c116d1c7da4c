"""What a run stands on, and what it means when that has changed."""

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

# what makes another run of it, as opposed to the same one with other rounding
IDENTITY = {"recipe": "the settings in run.json", "seed": "the seed in run.json", "data": "the data"}

A_GROUP = "threads a group"

# settings that came later, each with what was done before it was there: a run of that time is still the same run
LATER = {
    "": {"distil": None},
    "model": {"network": "unet", "patch": 4, "begin": None, "clusters": 0, "end_log_snr": None},
    "optim": {"augment": "none", "precision": "float32", "compile": "none"},
}

# settings that are gone, each with the value at which training did what it does now
FORMER = {"distil": {"calls": 1, "first_share": None}}


def versions(device: torch.device) -> dict[str, str]:
    """What the numbers of a run depend on beside its settings: on the same of all these they are the same bits."""
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
    recipe: Recipe, seed: int, data_digest: str, device: torch.device, processes: int = 1, lanes: int = 1
) -> dict[str, str]:
    """A fingerprint for each checkpoint: its settings, budget apart, its seed, its data and its versions.

    The number of processes is part of it where it changes the order of a sum: with more than two groups. So is how many
    threads compute a group, of which lanes have fewer.
    """
    settings = dataclasses.replace(recipe, minutes=None, steps=1).record()
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
    order[A_GROUP] = str(max(1, torch.get_num_threads() // lanes))
    return {"recipe": digest, "seed": str(seed), "data": data_digest, **versions(device), **order}


def check_origin(path: Path, before: dict[str, str], now: dict[str, str]) -> list[str]:
    """What is no longer as it was, in words: such a run goes on, but not to the bits of an unbroken one.

    Raises:
        InputError: If settings, seed or data are others: that would be another run.
    """
    before = {A_GROUP: before.get("threads", "unknown"), **before}  # all of them, before there were lanes
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    for name in changed:
        if name in IDENTITY:
            raise InputError(
                f"{IDENTITY[name]} are not those that the checkpoint of {path} was trained with; put them back as they "
                "were, or start a new run with another --out"
            )
    return [f"{name} was {before.get(name, 'unknown')}, is {now.get(name, 'unknown')}" for name in changed]
