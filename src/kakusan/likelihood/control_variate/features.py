"""Features of an example that predict how hard it is to denoise, without the network.

Digits differ in cost mostly by a few unusual pixels. The most informative features are therefore products of a
pixel's value and its distance from the value that its surroundings predict. All features are means over the example.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from kakusan.likelihood.chains import GetBatch
from kakusan.likelihood.control_variate.surroundings import Surroundings

ENDS = 0.01  # an end of the scale is a boundary if at least this share of values lies there, e.g. black for digits


class Features:
    """Features of the examples of one data set; images (n, C, H, W) have additional ones."""

    def __init__(self, batch: GetBatch, parts: Sequence[Tensor]):
        """Learn the range of values, and for images the prediction from the surroundings.

        Args:
            batch: Function that returns examples on the CPU.
            parts: Indices of all examples, in one part or more.
        """
        first = batch(parts[0])
        self._surroundings = Surroundings(first) if first.dim() == 4 else None
        self._walls = _walls(batch(part) for part in parts)

    def own(self, x: Tensor) -> Tensor:
        """Features of each example, float64 (n, k).

        The features are level, energy and numbers of values in each range. Images add first and second differences of
        neighbors, and differences from the surroundings.
        """
        low, inner, high = self._kinds(x)
        axes = range(2, x.dim())
        first = [x.diff(dim=axis) for axis in axes]
        second = [step.diff(dim=axis) for axis in axes for step in first]
        maps = [x, x.square(), inner * x, inner * (1 - x.square()), low, inner, high]
        for change in (*first, *second):
            maps += [change.abs(), change.square()]
        if self._surroundings is not None:
            above, off = _above_surroundings(x), self._surroundings.off(x)
            border = low & (F.max_pool2d((~low).to(x.dtype), 3, 1, 1) > 0)
            maps += [border, above.abs(), above.square(), inner * above.abs(), inner * above.square()]
            maps += [off.abs(), off.abs() * x.square()]
            maps += [off**j * x**k for j in range(1, 5) for k in range(4)]
            maps += [x**k for k in (3, 4, 6, 8)]
        return means(maps)

    def of_noise(self, x: Tensor, eps: Tensor) -> Tensor:
        """Size and sign of each example's noise by range of values, float64 (n, k), with mean 0 over eps for any x.

        The sign matters because a network knows that no value lies below the low end. eps has the shape of x.
        """
        kinds = self._kinds(x)
        size_on, upwards_on = [*kinds], [*kinds, x * kinds[1]]
        if self._surroundings is not None:
            off = self._surroundings.off(x)
            size_on += [x, x**2, x**4, x**8, off.abs(), off**2]
            upwards_on += [_above_surroundings(x), x, x**2, x**3, x**5, x**9, off, off * off.abs(), off**3]
        return means([(eps.square() - 1) * place for place in size_on] + [eps * place for place in upwards_on])

    def _kinds(self, x: Tensor) -> list[Tensor]:
        """Masks of values at the low end of the scale, between, and at the high end."""
        low, high = (x == wall for wall in self._walls)
        return [low, ~(low | high), high]


def means(maps: list[Tensor]) -> Tensor:
    """Mean over the event of each map (n, *event), in double precision; (n, len(maps))."""
    return torch.stack([values.flatten(1).double().mean(1) for values in maps], 1)


def _above_surroundings(x: Tensor) -> Tensor:
    """Images minus the mean of their surroundings."""
    return x - F.avg_pool2d(x, 3, 1, 1)


def _walls(chunks: Iterable[Tensor]) -> tuple[float, float]:
    """Smallest and largest value; NaN for an end at which few values lie."""
    least, most, at_least, at_most, number = math.inf, -math.inf, 0, 0, 0
    for x in chunks:
        low, high = x.min().item(), x.max().item()
        at_least = (at_least if least <= low else 0) + (int((x == low).sum()) if low <= least else 0)
        at_most = (at_most if most >= high else 0) + (int((x == high).sum()) if high >= most else 0)
        least, most, number = min(least, low), max(most, high), number + x.numel()
    return least if at_least > ENDS * number else math.nan, most if at_most > ENDS * number else math.nan
