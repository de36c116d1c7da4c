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
from kakusan.models.diffusion import Diffusion
from kakusan.noise import example_streams, stream
from kakusan.run.trained_model import TrainedModel
from kakusan.solvers import ddim_steps
from kakusan.storage import files

GRID_SAMPLES = 16
GRID_STEPS = 20
FINAL_SAMPLES = 64
STRIP_ROWS = 4
STRIP_COLUMNS = 9
MOST_CENTERS, CENTERS_PER_ROW = 128, 16


def sample_grid(model: TrainedModel, path: Path) -> None:
    """Write sixteen samples, always from the same noise, so that the eye can follow them over a run."""
    many = isinstance(model.chain, Diffusion) and not model.is_student
    steps = min(GRID_STEPS, model.chain.depth) if many else None
    _save(Images(model.sample(GRID_SAMPLES, seed=0, steps=steps)), path)


def final_figures(model: TrainedModel, dataset: Dataset, folder: Path) -> None:
    """Write samples.png, and figures that show how the model family works."""
    facts = {"recipe": model.recipe.name, "seed": 0}
    _save(Images(model.sample(FINAL_SAMPLES, seed=0)), folder / "samples.png", facts)
    if model.is_student:
        return  # it has no chain to show: noise in, image out
    if isinstance(model.chain, Diffusion):
        _save(forward_strip(model, dataset), folder / "forward.png", columns=STRIP_COLUMNS)
        _save(reverse_strip(model), folder / "reverse.png", columns=STRIP_COLUMNS)
        if model.chain.clusters is not None:
            centers = model.chain.clusters.pictures()[:MOST_CENTERS]
            _save(
                Images(model.scale.to_pixels(centers)),
                folder / "clusters.png",
                columns=min(CENTERS_PER_ROW, len(centers)),
            )
    else:
        columns = min(STRIP_COLUMNS, len(dataset.test))
        _save(reconstructions(model, dataset), folder / "reconstructions.png", columns=columns)


@torch.no_grad()
def forward_strip(model: TrainedModel, dataset: Dataset) -> Images:
    """Rows are test images, columns z_t for t from 0 to T; the noise of a row is one path, drawn step by step."""
    x = model.batches(dataset.test)(torch.arange(min(STRIP_ROWS, len(dataset.test))))
    path = sample_path(model.chain, x, stream(0, "forward strip"))
    shown = np.linspace(0, model.chain.depth, STRIP_COLUMNS).round().astype(int)
    return _rows(model, [path[t] for t in shown])


def reverse_strip(model: TrainedModel) -> Images:
    """Two rows for each sample: above z_t from t = T to 0, below the estimate of x from that z_t (at t = 0, x itself)."""
    assert isinstance(model.chain, Diffusion)
    coarse = model.sampling_chain(min(GRID_STEPS, model.chain.depth))
    streams = example_streams(0, range(STRIP_ROWS // 2))
    states, estimates = [], []  # z_t, and the estimate of x from it
    for z, x_hat in ddim_steps(coarse, len(streams), streams):
        states.append(z)
        estimates.append(x_hat)
    states = [coarse.prior().expand(len(streams)).sample(example_streams(0, range(len(streams)))), *states]
    estimates.append(states[-1])
    shown = np.linspace(0, len(states) - 1, STRIP_COLUMNS).round().astype(int)
    upper, lower = _rows(model, [states[k] for k in shown]), _rows(model, [estimates[k] for k in shown])
    both = [np.asarray(part).reshape(len(streams), STRIP_COLUMNS, *part.shape[1:]) for part in (upper, lower)]
    return Images(np.stack(both, axis=1).reshape(-1, *upper.shape[1:]))


@torch.no_grad()
def reconstructions(model: TrainedModel, dataset: Dataset) -> Images:
    """Pairs of rows: test images, and the mean of p(x | z_1) for z_1 drawn from q(z_1 | x)."""
    x = model.batches(dataset.test)(torch.arange(min(2 * STRIP_COLUMNS, len(dataset.test))))
    again = model.chain.decode(model.chain.encode(x, 1).sample(stream(0, "reconstructions")), 1).mean
    pairs = [part for rows in zip(x.split(STRIP_COLUMNS), again.split(STRIP_COLUMNS)) for part in rows]
    return Images(np.concatenate([model.scale.to_pixels(part) for part in pairs]))


def closest_pairs(model: TrainedModel, dataset: Dataset, closest: list[dict[str, Any]], seed: int, path: Path) -> None:
    """Write the samples most like copies, as `measure.samples` found them, above their nearest training images."""
    samples = [np.asarray(model.sample(1, seed, first=pair["sample"]))[0] for pair in closest]
    train = [dataset.train[pair["train"]].permute(1, 2, 0).numpy() for pair in closest]
    _save(Images(np.stack([*samples, *train])), path, columns=len(closest))


def _save(images: Images, path: Path, facts: dict[str, Any] | None = None, columns: int | None = None) -> None:
    if distributed.is_rank0():
        with files.writing(path):
            images.save(path, facts, columns)


def _rows(model: TrainedModel, columns: list[torch.Tensor]) -> Images:
    """Columns of (rows, C, H, W) in reading order."""
    stacked = torch.stack(columns, dim=1).flatten(0, 1)
    return Images(model.scale.to_pixels(stacked))
