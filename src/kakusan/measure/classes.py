"""Which classes samples fall into, as the shipped classifier sees them, beside the classes of real pictures."""

from __future__ import annotations

import torch
from torch import Tensor

from kakusan.measure.value import Value, share

SURE = 0.9


def class_shares(probabilities: Tensor) -> list[float]:
    """Share of each class, by the likeliest of each row of probabilities (N, C)."""
    return (_counts(probabilities) / len(probabilities)).tolist()


def recognised(probabilities: Tensor) -> Value:
    """Share of rows (N, C) of which the classifier is at least 90 % sure."""
    return share(probabilities.amax(1) >= SURE)


def class_chi_square(samples: Tensor, reference: Tensor) -> Value:
    """Pearson's chi-square of the two class histograms; (C - 1) on average for equal laws, C classes seen in either.

    Both sets' classes are named by the classifier, so that its mistakes on real pictures do not count.
    """
    table = torch.stack([_counts(samples), _counts(reference)])
    table = table[:, table.sum(0) > 0]
    expected = table.sum(1, keepdim=True) * table.sum(0) / table.sum()
    value = ((table - expected).square() / expected).sum()
    freedom = torch.tensor((table.shape[1] - 1) / 2, dtype=torch.float64)
    chance = torch.special.gammaincc(freedom, value / 2).item() if freedom > 0 else 1.0
    return Value(value.item(), None, chance)


def _counts(probabilities: Tensor) -> Tensor:
    return probabilities.argmax(1).bincount(minlength=probabilities.shape[1]).double()
