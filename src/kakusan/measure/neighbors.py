"""Nearest neighbors among many points, in chunks that take about 100 MB in addition to the points in float32."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from kakusan.errors import InputError
from kakusan.progress import progress

CHUNK_ENTRIES = 8_000_000  # entries of one table of distances
BLOCK = 64  # adjacent entries that are first reduced to their minimum
SPARE = 4  # candidates beyond k, because float32 may order nearly equal distances wrongly


def squared_distances(queries: Tensor, points: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield rows of queries (N, D) and their squared distances (rows, M) to points (M, D), chunk by chunk.

    They are computed as |q|^2 + |p|^2 - 2 q.p, with rounding errors relative to the squared norms.
    """
    norms = points.square().sum(1)
    step = max(1, CHUNK_ENTRIES // max(len(points), 1))
    for start in progress(range(0, len(queries), step), "measuring samples"):
        rows = slice(start, start + step)
        part = queries[rows]
        yield rows, torch.addmm(norms + part.square().sum(1, keepdim=True), part, points.T, alpha=-2)


def nearest(queries: Tensor, points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the k nearest points of each query, nearest first: distances (N, k) in float64, and indices (N, k).

    Candidates are found in float32 after subtracting the points' mean. Their distances are then recomputed in float64
    from differences.

    Raises:
        InputError: If there are fewer than k points.
    """
    for table in (points, queries):
        if not isinstance(table, Tensor) or table.dim() != 2 or table.shape[1] != points.shape[1] or table.is_complex():
            found = tuple(table.shape) if isinstance(table, Tensor) else type(table).__name__
            raise InputError(f"neighbors need tables (N, D) and (M, D) with the same D, got {found}")
    if not 1 <= k <= len(points):
        raise InputError(f"k must be from 1 to the number of points, got {k} of {len(points)}")
    center = points.float().mean(0)
    near, far = queries.float() - center, points.float() - center
    distances, indices = [], []
    for rows, table in squared_distances(near, far):
        candidates = _smallest(table, min(k + SPARE, len(points)))
        exact = (queries[rows, None].double() - points[candidates].double()).norm(dim=2)
        order = exact.argsort(dim=1, stable=True)[:, :k]
        distances.append(exact.gather(1, order))
        indices.append(candidates.gather(1, order))
    if not distances:
        return torch.zeros(0, k, dtype=torch.float64), torch.zeros(0, k, dtype=torch.int64)
    return torch.cat(distances), torch.cat(indices)


def _smallest(table: Tensor, k: int) -> Tensor:
    """Positions of each row's k smallest entries, unsorted; only the k blocks with the smallest minima are searched."""
    rows, width = table.shape
    if width <= k * BLOCK:
        return table.topk(k, largest=False, sorted=False).indices
    whole = width // BLOCK * BLOCK
    blocks = table[:, :whole].view(rows, -1, BLOCK).amin(2).topk(k, largest=False, sorted=False).indices
    rest = torch.arange(whole, width).expand(rows, -1)
    columns = torch.cat([(blocks[:, :, None] * BLOCK + torch.arange(BLOCK)).flatten(1), rest], dim=1)
    return columns.gather(1, table.gather(1, columns).topk(k, largest=False, sorted=False).indices)
