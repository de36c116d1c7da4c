"""Figures of a run: samples, both directions of the chain, reconstructions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from kakusan import distributed
from kakusan.bound import sample_path
from kakusan.data.dataset import Dataset
from kakusan.images import Images
from kakusan.models.mixture import split
from kakusan.noise import stream
from kakusan.run.families.base import Figure
from kakusan.run.trained_model import TrainedModel
from kakusan.solvers.loop import SolverStep, sample
from kakusan.storage import files

GRID_SAMPLES = 16
FINAL_SAMPLES = 64
STRIP_ROWS = 4
STRIP_COLUMNS = 9
MOST_CENTROIDS, CENTROIDS_PER_ROW = 128, 16


def sample_grid(model: TrainedModel, path: Path) -> None:
    """Write sixteen samples, always from the same noise, so that they can be compared over a run."""
    samples, columns = by_class(model, GRID_SAMPLES)
    _save(model, samples, path, columns=columns)


def final_figures(model: TrainedModel, dataset: Dataset, folder: Path) -> None:
    """Write samples.png, and figures that show how the model family works."""
    facts = {"recipe": model.recipe.name, "seed": 0}
    samples, columns = by_class(model, FINAL_SAMPLES)
    _save(model, samples, folder / "samples.png", facts, columns)
    for name, (images, columns) in model.family.figures(model, dataset.test).items():
        _save(model, images, folder / name, columns=columns)


def by_class(model: TrainedModel, n: int) -> tuple[Any, int | None]:
    """Return about n samples. For a model of labels, also return the number of columns: one per class, in order."""
    num = len(model.classes)
    if not 0 < num <= n:
        return model.sample(n, seed=0), None
    return model.sample(n // num * num, seed=0, label="each"), num


def cluster_centroids(model: TrainedModel) -> dict[str, Figure]:
    """Return a figure of the centroids of the most common clusters; empty without clusters."""
    clusters = split(model.chain)[1]
    if clusters is None:
        return {}
    centroids = clusters.images()[:MOST_CENTROIDS]
    if not len(centroids):
        return {}
    images = Images(model.scale.to_pixels(centroids))
    return {"clusters.png": (images, min(CENTROIDS_PER_ROW, len(centroids)))}


@torch.no_grad()
def forward_strip(model: TrainedModel, held_out: torch.Tensor) -> Figure:
    """Return a figure of z_t with one row per test image and one column per t from 0 to T. Each row is one drawn path."""
    chain = split(model.chain)[0]
    x = model.batches(held_out)(torch.arange(min(STRIP_ROWS, len(held_out))))
    path = sample_path(chain, x, stream(0, "forward strip"))
    shown = np.linspace(0, chain.depth, STRIP_COLUMNS).round().astype(int)
    return _rows(model, [path[t] for t in shown]), STRIP_COLUMNS


def reverse_strip(model: TrainedModel) -> Figure:
    """Return a figure with two rows per sample, for t = T to 0: z_t, and the estimate of x from it (at t = 0, x)."""
    states, estimates = [], []  # z_t, and the estimate of x from it

    def keep(step: SolverStep) -> None:
        states.append(step.z_t)
        estimates.append(step.x_hat)

    samples = STRIP_ROWS // 2
    x = sample(model.sampling.chain(), samples, solver="ddim", times=model.sampling.times(), callback=keep)
    states, estimates = [*states, x], [*estimates, x]
    shown = np.linspace(0, len(states) - 1, STRIP_COLUMNS).round().astype(int)
    upper, lower = _rows(model, [states[k] for k in shown]), _rows(model, [estimates[k] for k in shown])
    both = [np.asarray(part).reshape(samples, STRIP_COLUMNS, *part.shape[1:]) for part in (upper, lower)]
    return Images(np.stack(both, axis=1).reshape(-1, *upper.shape[1:])), STRIP_COLUMNS


@torch.no_grad()
def reconstructions(model: TrainedModel, held_out: torch.Tensor) -> Figure:
    """Return a figure of row pairs: test images, and the mean of p(x | z_1) for z_1 drawn from q(z_1 | x)."""
    x = model.batches(held_out)(torch.arange(min(2 * STRIP_COLUMNS, len(held_out))))
    again = model.chain.decode(model.chain.encode(x, 1).sample(stream(0, "reconstructions")), 1).mean
    pairs = [part for rows in zip(x.split(STRIP_COLUMNS), again.split(STRIP_COLUMNS)) for part in rows]
    images = Images(np.concatenate([model.scale.to_pixels(part) for part in pairs]))
    return images, min(STRIP_COLUMNS, len(x))


def closest_pairs(model: TrainedModel, dataset: Dataset, closest: list[dict[str, Any]], seed: int, path: Path) -> None:
    """Write the samples most similar to training images, as `measure.samples` found them, above those images."""
    samples = [np.asarray(model.sample(1, seed, first=pair["sample"]))[0] for pair in closest]
    train = dataset.form.samples(dataset.train[[pair["train"] for pair in closest]])
    _save(model, np.stack([*samples, *train]), path, columns=len(closest))


def _save(
    model: TrainedModel, samples: Any, path: Path, facts: dict[str, Any] | None = None, columns: int | None = None
) -> None:
    if distributed.is_rank0():
        with files.writing(path):
            model.family.form.save_figure(samples, path, facts, columns)


def _rows(model: TrainedModel, columns: list[torch.Tensor]) -> Images:
    """Turn columns, each (rows, C, H, W), into images in reading order."""
    stacked = torch.stack(columns, dim=1).flatten(0, 1)
    return Images(model.scale.to_pixels(stacked))
