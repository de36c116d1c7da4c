"""Precision and recall, density and coverage: are samples where data are, and are there samples where data are?

A set's manifold is the union of balls about its points, each as wide as its k-th nearest neighbour of the same set is
far. Sources: Kynkaanniemi et al. 2019 for precision and recall with k = 3; Naeem et al. 2020 for density and coverage
with k = 5. All four depend on the sizes of both sets: compare equal sizes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kakusan.measure.neighbours import nearest, squared_distances
from kakusan.measure.value import Value, share

K_PRECISION, K_DENSITY = 3, 5


def precision_recall(samples: Tensor, reference: Tensor) -> dict[str, Value]:
    """Of features (N, D) and (M, D), each more than five; each standard error takes the other set as given.

    precision: share of samples inside the reference's manifold. recall: share of the reference inside the samples'.
    density: how many balls of the reference a sample lies in, over k; about 1 for equal laws. coverage: share of the
    reference's balls with a sample inside.
    """
    if min(len(samples), len(reference)) <= K_DENSITY:
        raise ValueError(f"expected more than {K_DENSITY} rows of each, got {len(samples)} and {len(reference)}")
    samples, reference = samples.double(), reference.double()
    ours, theirs = (_radii(points) for points in (samples, reference))
    precise, balls = [], []
    recalled, covered = (torch.full((len(reference),), torch.inf, dtype=torch.float64) for _ in range(2))
    for rows, table in squared_distances(samples, reference):
        precise.append((table - theirs[:, 0]).amin(1) <= 0)
        balls.append((table <= theirs[:, 1]).sum(1, dtype=torch.int32))
        recalled = torch.minimum(recalled, (table - ours[rows, :1]).amin(0))
        covered = torch.minimum(covered, (table - theirs[:, 1]).amin(0))
    inside = torch.cat(balls).double() / K_DENSITY
    return {
        "precision": share(torch.cat(precise)),
        "recall": share(recalled <= 0),
        "density": Value(inside.mean().item(), (inside.std() / len(inside) ** 0.5).item()),
        "coverage": share(covered <= 0),
    }


def _radii(points: Tensor) -> Tensor:
    """Squared distances (N, 2) of each point to its third and its fifth neighbour; the nearest is the point itself."""
    return nearest(points, points, K_DENSITY + 1)[0][:, [K_PRECISION, K_DENSITY]].square()
