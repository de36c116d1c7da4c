"""Precision, recall, density and coverage: overlap of the manifolds of samples and data.

A set's manifold is the union of balls around its points. A ball's radius is the distance to the k-th nearest neighbor in
the same set. Sources: Kynkaanniemi et al. 2019 for precision and recall with k = 3; Naeem et al. 2020 for density and
coverage with k = 5. All four depend on the sizes of both sets, so only values for equal sizes are comparable.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from kakusan.errors import InputError
from kakusan.measure.metric import Column, Metric, Sets, Value, pair, share
from kakusan.measure.neighbors import nearest, squared_distances

K_PRECISION, K_DENSITY = 3, 5


def precision_recall(samples: Tensor, reference: Tensor) -> dict[str, Value]:
    """Precision, recall, density and coverage of features (N, D) and (M, D), more than five rows each.

    Precision is the share of samples in the reference's manifold, and recall the share of the reference in the samples'
    manifold. Density is the mean number of the reference's balls that contain a sample, divided by k; it is about 1 for
    equal distributions. Coverage is the share of the reference's balls that contain a sample. Each standard error takes
    the other set as fixed.
    """
    samples, reference = pair(samples, reference)
    if min(len(samples), len(reference)) <= K_DENSITY:
        raise InputError(f"expected more than {K_DENSITY} rows of each, got {len(samples)} and {len(reference)}")
    samples, reference = samples.double(), reference.double()
    ours, theirs = (_radii(points) for points in (samples, reference))
    precise, balls = [], []
    recalled, covered = (torch.full((len(reference),), torch.inf, dtype=torch.float64) for _ in range(2))
    for part, table in squared_distances(samples, reference):
        precise.append((table - theirs[:, 0]).amin(1) <= 0)
        balls.append((table <= theirs[:, 1]).sum(1, dtype=torch.int32))
        recalled = torch.minimum(recalled, (table - ours[part, :1]).amin(0))
        covered = torch.minimum(covered, (table - theirs[:, 1]).amin(0))
    inside = torch.cat(balls).double() / K_DENSITY
    return {
        "precision": share(torch.cat(precise)),
        "recall": share(recalled <= 0),
        "density": Value(inside.mean().item(), (inside.std() / len(inside) ** 0.5).item()),
        "coverage": share(covered <= 0),
    }


def _radii(points: Tensor) -> Tensor:
    """Squared distances (N, 2) of each point to its third and fifth nearest neighbor, not counting itself."""
    return nearest(points, points, K_DENSITY + 1)[0][:, [K_PRECISION, K_DENSITY]].square()


class PrecisionRecallMetric(Metric):
    """Precision, recall, density and coverage, from equal numbers of samples and held-out examples."""

    columns: ClassVar = {
        "precision": Column("precision", "higher is better", "share of samples"),
        "recall": Column("recall", "higher is better", "share of data"),
        "density": Column("density of data around samples", "1 if equal"),
        "coverage": Column("coverage", "higher is better", "share of data"),
    }

    def compute(self, sets: Sets) -> dict[str, Value]:
        """Compare the features of the samples with those of held-out examples."""
        size = min(len(sets.samples), len(sets.reference))
        return precision_recall(sets.samples.features[:size], sets.reference.features[:size])
