"""Scores of individual examples in nats and bits per dimension with standard errors, and the strangest examples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kakusan.console import counted
from kakusan.errors import InputError
from kakusan.likelihood.ranking import Ranking, rank_examples
from kakusan.likelihood.scores import per_observed
from kakusan.noise import stream
from kakusan.run.tools.files import check_file, examples_of, make_folder_of, write_new
from kakusan.run.tools.reconstruct import in_pairs
from kakusan.storage.arrays import csv_bytes

if TYPE_CHECKING:
    from kakusan.run.trained_model import TrainedModel

TOP = 20
HIGHER = "caution: {rows} with missing values: a bound covers observed values only, so it is higher with fewer of them"
MAP_LEVELS = 8  # number of noise levels of a diffusion model, or of draws of the latents
WHITE = 255


@dataclass(frozen=True)
class Scored:
    """Scores of a data set.

    Attributes:
        data: Its name.
        ranking: The scores and the strangest examples.
        names: File name of each example; empty if examples have only numbers.
        observed: Number of observed values of each example; empty if no value is missing.
        num_incomplete: Number of examples with missing values.
    """

    data: str
    ranking: Ranking
    names: tuple[str, ...]
    observed: tuple[int, ...] = ()
    num_incomplete: int = 0

    def rows(self) -> list[dict[str, Any]]:
        """Return one table row for each example, in the order of the data."""
        scores, names = self.ranking.scores, self.names
        columns = zip(*(column.tolist() for column in (scores.nats, scores.stderr, scores.bits_per_dim,
                                                        scores.bits_per_dim_stderr, self.ranking.draws)))  # fmt: skip
        return [
            {
                "example": index,
                **({"file": names[index]} if names else {}),
                **({"observed": self.observed[index]} if self.observed else {}),
                "nats": nats,
                "nats_stderr": nats_stderr,
                "bits_per_dim": bits,
                "bits_per_dim_stderr": bits_stderr,
                "evaluations": draws,
            }
            for index, (nats, nats_stderr, bits, bits_stderr, draws) in enumerate(columns)
        ]

    def record(self) -> dict[str, Any]:
        """Return plain JSON values: the mean, and the strangest examples."""
        rows = self.rows()
        return {
            "num_examples": len(rows),
            "mean_bits_per_dim": self.ranking.scores.bits_per_dim.nanmean().item(),
            "evaluations": int(self.ranking.draws.sum()),
            "open": self.ranking.num_open,
            "strangest": [
                {name: None if value != value else value for name, value in rows[index].items()}  # JSON has no NaN
                for index in self.ranking.rows.tolist()
            ],
        }

    def lines(self) -> list[str]:
        """Return the strangest examples as lines of text."""
        rows, ranking = self.rows(), self.ranking
        picked = [rows[index] for index in ranking.rows.tolist()]
        lines = [
            f"{len(rows):,} examples of {self.data}, {int(ranking.draws.sum()):,} evaluations; log p(x) is at least:"
        ]
        lines += [
            f"  {row.get('file', row['example'])!s:<24} {row['nats']:12.2f} ± {row['nats_stderr']:.2f} nats "
            f"{row['bits_per_dim']:9.4f} ± {row['bits_per_dim_stderr']:.4f} bits/dim"
            for row in picked
        ]
        if ranking.num_open:
            lines.append(f"{ranking.num_open} examples are too close to the last of these to tell which belong here")
        if self.observed:
            lines.append(HIGHER.format(rows=counted(self.num_incomplete, "row")))
        return lines

    def table(self) -> bytes:
        """Return all rows as CSV."""
        rows = self.rows()
        return csv_bytes([rows[0], *(row.values() for row in rows)])


def score(
    run: Path | str,
    path: str,
    *,
    top: int = TOP,
    error: float | None = None,
    evaluations: int = 128,
    out: Path | None = None,
    map: Path | None = None,
    seed: int = 0,
    device: str = "auto",
) -> Scored:
    """Score each example of a data file or folder, and find the strangest.

    Args:
        run: Run directory or exported file.
        path: Data of the model's shape, all of which are used.
        top: Number of strangest examples.
        error: Wanted standard error of each example in nats; default: none.
        evaluations: Initial number of draws per example, at least 2.
        out: New .csv file for all scores; default: none.
        map: New .png file with the strangest images above maps of their squared errors; default: none.
        seed: Random seed.
        device: "auto", "cpu", "cuda" or "cuda:N".
    """
    for wanted, suffix in ((out, ".csv"), (map, ".png")):
        if wanted is not None:
            check_file(wanted, (suffix,))
    model, dataset = examples_of(run, path, device)
    model.check_bound()
    if map is not None and not model.family.form.has_pixels:
        raise InputError(f"--map draws images, and {dataset.name} has none; omit --map")
    ranking = rank_examples(
        model.chain, model.batches(dataset.test, seed), len(dataset.test), model.num_dims, top, evaluations, error,
        seed, model.grid_nats(),
    )  # fmt: skip
    ranking = replace(ranking, scores=per_observed(ranking.scores, dataset.test))
    observed, incomplete = _observed(dataset.test)
    found = Scored(dataset.name, ranking, dataset.names, observed, incomplete)
    if out is not None:
        write_new(out, found.table())
    if map is not None:
        strangest = dataset.test[ranking.rows]
        shown = in_pairs(model.family.form.samples(strangest), as_gray(model, error_map(model, strangest, seed)))
        make_folder_of(map)
        model.family.form.save_figure(shown, map, {"run": run, "lower row": "squared error"}, min(10, len(strangest)))
    return found


def _observed(examples: Tensor) -> tuple[tuple[int, ...], int]:
    """Number of observed values of each example, and of examples with missing ones; empty and 0 if there are none."""
    if not examples.is_floating_point() or not examples.isnan().any():
        return (), 0
    missing = examples.isnan().flatten(1)
    return tuple((~missing).sum(1).tolist()), int(missing.any(1).sum())


def error_map(model: TrainedModel, data: Any, seed: int = 0) -> Tensor:
    """Return the squared error of the model's estimate of each pixel of given images, on the model's scale.

    For a diffusion model it is the mean over noise levels that cost about equally many nats; otherwise, over draws of the
    latents.

    Args:
        model: A trained model of images.
        data: As in `TrainedModel.evaluate`.
        seed: Random seed; all images share the noise.

    Returns:
        Shape (n, H, W), averaged over the channels.
    """
    examples = model.examples(data)
    x = model.batches(examples, seed)(torch.arange(len(examples)))
    latents, randomness = model.family.latents(model), stream(seed, "map")
    cond = latents.cond_of(x)
    with torch.no_grad():
        estimates = latents.estimates(x, MAP_LEVELS, randomness, cond)
        squares = torch.stack([(estimate - x).square() for estimate in estimates])
    return squares.mean((0, 2)).cpu()


def as_gray(model: TrainedModel, errors: Tensor) -> np.ndarray:
    """Return maps as images with the model's number of channels, each scaled to its own largest error."""
    share = errors / errors.flatten(1).amax(1).clamp(min=1e-12)[:, None, None]
    gray = (share * WHITE).round().to(torch.uint8).numpy()[..., None]
    return np.broadcast_to(gray, (*gray.shape[:3], model.event_shape[0])).copy()
