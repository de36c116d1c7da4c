"""Samples of a trained model stored in files, so that an interrupted benchmark resumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kakusan.run.trained_model import TrainedModel
from kakusan.solvers.evaluations import counted
from kakusan.storage.tensors import digest

CHUNK = 250  # samples to a file


def samples(
    model: TrainedModel, folder: Path, n: int, seed: int, **choices: str | float | None
) -> tuple[np.ndarray, float]:
    """Draw n samples, reusing stored ones; return them and the network evaluations per sample.

    Args:
        model: Diffusion model; the digest of its weights is part of the files' names.
        folder: Folder of the files; created if missing.
        n: Number of samples; the last file is filled up.
        seed: Random seed.
        choices: Arguments of `TrainedModel.sample`; None means its default.
    """
    folder.mkdir(parents=True, exist_ok=True)
    given = {name: value for name, value in choices.items() if value is not None}
    words = "".join(
        f"-{name}{value:g}" if isinstance(value, float) else f"-{name}{value}" for name, value in given.items()
    )
    whose, parts = digest(model.chain.state_dict())[:16], []
    for first in range(0, n, CHUNK):
        file = folder / f"{whose}{words}-seed{seed}-first{first}.npy"
        if not file.exists():
            half = file.with_suffix(".part.npy")
            np.save(half, np.asarray(model.sample(CHUNK, seed, first=first, **given)))
            half.replace(file)
        parts.append(np.load(file))
    with counted(*model.sampling.denoisers) as calls:
        model.sample(1, seed, **given)
    return np.concatenate(parts)[:n], calls.total
