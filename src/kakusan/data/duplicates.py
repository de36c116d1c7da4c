"""Equal and nearly equal images of a data set, found by their content and by small versions of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from kakusan.data.forms.base import NUMBERS_AT_ONCE

MOST_NEAR = 5_000  # images compared with each other; of a larger set, a fixed random choice
SIDE = 16  # pixels of the small versions
NEAR = 0.1  # largest root mean square difference of near duplicates, relative to an image's contrast
ROWS = 500  # compared at a time


@dataclass(frozen=True)
class Duplicates:
    """Duplicates among images.

    Attributes:
        equal: Number of images that equal an earlier one.
        near: Number of compared images that nearly, but not exactly, equal an earlier one.
        compared: Number of images that were compared with each other.
        examples: Index pairs of some nearly equal images.
    """

    equal: int
    near: int
    compared: int
    examples: list[tuple[int, int]]


def duplicates(*parts: Tensor) -> Duplicates:
    """Find duplicates among the images uint8 (N, C, H, W) of all parts. Images may lie on disk: few are read at a time."""
    seen: set[bytes] = set()
    images = [image for part in parts for image in part]  # views
    distinct = []
    for row, image in enumerate(images):
        digest = hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest()
        if digest not in seen:
            seen.add(digest)
            distinct.append(row)
    equal, rows = len(images) - len(distinct), torch.tensor(distinct)
    if len(rows) > MOST_NEAR:
        rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:MOST_NEAR].sort().values]
    at_once = max(1, NUMBERS_AT_ONCE // images[0].numel())
    small = torch.cat([_small(torch.stack([images[row] for row in some.tolist()])) for some in rows.split(at_once)])
    contrast = (small - small.mean(1, keepdim=True)).square().mean(1).sqrt()
    examples, near = [], 0
    for start in range(0, len(small), ROWS):
        part = slice(start, start + ROWS)
        distance = torch.cdist(small[part], small, compute_mode="donot_use_mm_for_euclid_dist") / small.shape[1] ** 0.5
        close = (distance <= NEAR * contrast[part, None]).tril(start - 1)  # earlier ones only
        near += int(close.any(1).sum())
        examples += [(int(rows[j]), int(rows[start + i])) for i, j in close.nonzero()[:5].tolist()]
    return Duplicates(equal, near, len(rows), examples[:5])


def _small(images: Tensor) -> Tensor:
    size = min(images.shape[2], SIDE), min(images.shape[3], SIDE)
    return F.adaptive_avg_pool2d(images.float(), size).flatten(1)
