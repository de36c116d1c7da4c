"""Nearest neighbours among many points, in chunks: beside the points in float32 some 100 MB, whatever the sizes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

CHUNK_ENTRIES = 8_000_000  # of one table of distances
BLOCK = 64  # neighbouring entries of which one minimum is taken first
SPARE = 4  # candidates beyond those asked for, since float32 may order near ones wrongly


def squared_distances(queries: Tensor, points: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Rows of queries (N, D) and their squared distances (rows, M) to points (M, D), chunk by chunk.

    From |q|^2 + |p|^2 - 2 q.p: exact to rounding in the dtype given, relative to the squared norms.
    """
    norms = points.square().sum(1)
    step = max(1, CHUNK_ENTRIES // max(len(points), 1))
    for start in range(0, len(queries), step):
        rows = slice(start, start + step)
        part = queries[rows]
        yield rows, torch.addmm(norms + part.square().sum(1, keepdim=True), part, points.T, alpha=-2)


def nearest(queries: Tensor, points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest points of each query, nearest first: distances (N, k) in float64, and which points (N, k).

    Candidates are found in float32, about the points' mean; their distances are then taken anew as differences.
    """
    if not 1 <= k <= len(points):
        raise ValueError(f"k must be from 1 to the number of points, got {k} of {len(points)}")
    centre = points.float().mean(0)
    near, far = queries.float() - centre, points.float() - centre
    distances, indices = [], []
    for rows, table in squared_distances(near, far):
        candidates = _smallest(table, min(k + SPARE, len(points)))
        exact = (queries[rows, None].double() - points[candidates].double()).norm(dim=2)
        order = exact.argsort(dim=1, stable=True)[:, :k]
        distances.append(exact.gather(1, order))
        indices.append(candidates.gather(1, order))
    return torch.cat(distances), torch.cat(indices)


def _smallest(table: Tensor, k: int) -> Tensor:
    """Where the k smallest entries of each row are, in no order: they lie in the k blocks with the smallest minima."""
    rows, width = table.shape
    if width <= k * BLOCK:
        return table.topk(k, largest=False, sorted=False).indices
    whole = width // BLOCK * BLOCK
    blocks = table[:, :whole].view(rows, -1, BLOCK).amin(2).topk(k, largest=False, sorted=False).indices
    rest = torch.arange(whole, width).expand(rows, -1)
    columns = torch.cat([(blocks[:, :, None] * BLOCK + torch.arange(BLOCK)).flatten(1), rest], dim=1)
    return columns.gather(1, table.gather(1, columns).topk(k, largest=False, sorted=False).indices)
