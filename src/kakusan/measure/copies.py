"""Are samples copies? How far each is from its nearest training picture, beside held-out pictures, which are none."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kakusan.measure.neighbours import nearest
from kakusan.measure.value import Value, share

RATIO = 1 / 3  # of the distances to the nearest and to the second nearest training picture


@dataclass(frozen=True)
class Nearest:
    """The two nearest training pictures of each of N pictures: distances and which (N, 2), nearest first."""

    distances: Tensor
    indices: Tensor

    @property
    def ratios(self) -> Tensor:
        """Nearest over second nearest (N,); 0 on a training picture, also where that one is there twice."""
        first, second = self.distances.unbind(1)
        return torch.where(first == 0, 0.0, first / second)

    @property
    def copied(self) -> Value:
        """Share of the N that are three times nearer to one training picture than to any other.

        Source of the criterion: Yoon et al. 2023.
        """
        return share(self.ratios < RATIO)


def nearest_two(pictures: Tensor, train: Tensor) -> Nearest:
    """Of rows of pixels or features (N, D) among those of the training pictures (M, D)."""
    return Nearest(*nearest(pictures, train, 2))


def nearer(samples: Nearest, held_out: Nearest) -> Value:
    """Chance that a sample is nearer to its training picture than a held-out picture is to its own; 0.5 for equal laws.

    The standard error is that of an average over both sets, with the training pictures given. Above 0.5, samples keep
    closer to the training pictures than new data do. Sources: Meehan, Chaudhuri and Dasgupta 2020; DeLong, DeLong and
    Clarke-Pearson 1988 for the error.
    """
    ours, theirs = samples.distances[:, 0], held_out.distances[:, 0]
    for_ours = 1 - _ranks(ours, theirs)
    for_theirs = _ranks(theirs, ours)
    variance = for_ours.var() / len(ours) + for_theirs.var() / len(theirs)
    return Value(for_ours.mean().item(), variance.sqrt().item())


def _ranks(values: Tensor, among: Tensor) -> Tensor:
    """Share of `among` that is smaller than each value; equal ones count half."""
    among = among.sort().values
    below, upto = (torch.searchsorted(among, values.contiguous(), right=right) for right in (False, True))
    return (below + upto).double() / (2 * len(among))
