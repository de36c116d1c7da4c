"""Power of images at the frequency of a 2 x 2 grid, an artifact of networks that fold pixels into channels.

The image is multiplied by (-1)^column, (-1)^row and their product, which moves the highest frequencies to zero. Averaging
neighbors three times then removes the smooth part of the original image, and averaging 8 x 8 pixels keeps a band around
zero. The power is the mean square of the results of the three products.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kakusan.measure.metric import Column, Metric, Sets, Value

SMOOTHED = 3  # number of times that neighbors are averaged
WINDOW = 8  # side of an averaged square in pixels
VALUES_AT_ONCE = 2**22


def grid_power(images: np.ndarray) -> Tensor:
    """Power (N,) of images uint8 (N, H, W, C) at the grid's frequency, in squared gray levels."""
    batch = max(1, VALUES_AT_ONCE // max(1, int(np.prod(images.shape[1:]))))
    parts = [_power(images[start : start + batch]) for start in range(0, len(images), batch)]
    return torch.cat([torch.zeros(0), *parts])


def _power(images: np.ndarray) -> Tensor:
    x = torch.from_numpy(np.ascontiguousarray(images)).movedim(-1, 1).float()
    rows, columns = (1 - 2 * (torch.arange(side) % 2.0) for side in x.shape[2:])
    signs = (rows[:, None], columns[None, :], rows[:, None] * columns)
    window = min(WINDOW, *(side - SMOOTHED for side in x.shape[2:]))
    if window < 1:
        return torch.zeros(len(x))
    powers = []
    for sign in signs:
        moved = x * sign
        for _ in range(SMOOTHED):
            moved = F.avg_pool2d(moved, 2, stride=1)
        powers.append(F.avg_pool2d(moved, window).square().mean((1, 2, 3)))
    return torch.stack(powers).mean(0)


class GridMetric(Metric):
    """Power at the frequency of a 2 x 2 grid, relative to real images."""

    columns: ClassVar = {"grid_power": Column("power of a 2 x 2 grid", "1 if equal", "times real images")}

    def compute(self, sets: Sets) -> dict[str, Value]:
        """Divide the mean power of the samples by that of held-out images."""
        ours, theirs = sets.samples.grid, sets.reference.grid
        if ours is None or theirs is None or not theirs.mean() > 0:
            return {}
        ratio = (ours.double().mean() / theirs.double().mean()).item()
        errors = [
            (part.double().var() / len(part)).item() / part.double().mean().item() ** 2
            for part in (ours, theirs)
            if part.mean() > 0
        ]
        return {"grid_power": Value(ratio, ratio * sum(errors) ** 0.5)}
