"""Classes of samples according to a classifier, compared with the classes of real images."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from kakusan.measure.metric import Column, Metric, Sets, Value, pair, share
from kakusan.measure.metric import probabilities as checked

CONFIDENT = 0.9


def class_shares(probabilities: Tensor) -> list[float]:
    """Share of each class among the most probable classes of the rows of probabilities (N, C)."""
    return (_counts(probabilities) / len(checked(probabilities))).tolist()


def recognized(probabilities: Tensor) -> Value:
    """Share of rows (N, C) in which one class has a probability of at least 90 %."""
    return share(checked(probabilities).amax(1) >= CONFIDENT)


def class_chi_square(samples: Tensor, reference: Tensor) -> Value:
    """Pearson's chi-square of the two class histograms; its mean is C - 1 for equal distributions over C classes.

    The classifier labels both sets, so its mistakes on real images do not count. Classes that neither set has are
    left out.
    """
    table = torch.stack([*map(_counts, pair(samples, reference))])
    table = table[:, table.sum(0) > 0]
    expected = table.sum(1, keepdim=True) * table.sum(0) / table.sum()
    value = ((table - expected).square() / expected).sum()
    freedom = torch.tensor((table.shape[1] - 1) / 2, dtype=torch.float64)
    chance = torch.special.gammaincc(freedom, value / 2).item() if freedom > 0 else 1.0
    return Value(value.item(), None, chance)


def _counts(probabilities: Tensor) -> Tensor:
    probabilities = checked(probabilities)
    return probabilities.argmax(1).bincount(minlength=probabilities.shape[1]).double()


class ClassChiSquareMetric(Metric):
    """Chi-square of the class histograms."""

    columns: ClassVar = {"class_chi_square": Column("chi-square of the classes", "lower is better")}

    def compute(self, sets: Sets) -> dict[str, Value]:
        """Compare the classes of the samples with those of held-out examples."""
        ours, theirs = sets.samples.probabilities, sets.reference.probabilities
        return {} if ours is None or theirs is None else {"class_chi_square": class_chi_square(ours, theirs)}


class RecognizedMetric(Metric):
    """Share of samples that the classifier labels with high confidence."""

    columns: ClassVar = {"recognized": Column("classifier confidence at least 90 %", "higher is better")}

    def compute(self, sets: Sets) -> dict[str, Value]:
        """Measure the samples' classes."""
        ours = sets.samples.probabilities
        return {} if ours is None else {"recognized": recognized(ours)}

    def floor(self, sets: Sets) -> dict[str, Value]:
        """Measure held-out examples, because the classifier was trained on the training examples."""
        theirs = sets.reference.probabilities
        return {} if theirs is None else {"recognized": recognized(theirs)}
