"""Copies of training examples among samples, found by distances and compared with those among held-out examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from kakusan.measure.metric import Column, Metric, Sets, Value, share
from kakusan.measure.neighbors import nearest

RATIO = 1 / 3  # a copy has a smaller ratio of the distances to its nearest and second nearest training example
NUM_PAIRS = 8
CLEAR = 3.0  # standard errors of a clear difference
Kind = Literal["features", "pixels"]


@dataclass(frozen=True)
class Nearest:
    """Distances and indices of the two nearest training examples of N examples, (N, 2), nearest first."""

    distances: Tensor
    indices: Tensor

    @property
    def ratios(self) -> Tensor:
        """Nearest divided by second nearest distance (N,); 0 for an exact copy, even if both distances are 0."""
        first, second = self.distances.unbind(1)
        return torch.where(first == 0, 0.0, first / second)

    @property
    def copied(self) -> Value:
        """Share of the N examples that are at least three times nearer to one training example than to any other.

        Source of the criterion: Yoon et al. 2023.
        """
        return share(self.ratios < RATIO)


def nearest_two(examples: Tensor, train: Tensor) -> Nearest:
    """Find the two nearest rows of train (M, D) for each of the examples (N, D), by pixels or features."""
    return Nearest(*nearest(examples, train, 2))


def nearer(samples: Nearest, held_out: Nearest) -> Value:
    """Probability that a sample is nearer to its nearest training example than a held-out example is to its own.

    It is 0.5 for equal distributions. Above 0.5, samples lie closer to the training examples than new data do. The
    standard error takes the training examples as fixed. Sources: Meehan, Chaudhuri and Dasgupta 2020; DeLong, DeLong
    and Clarke-Pearson 1988 for the error.
    """
    ours, theirs = samples.distances[:, 0], held_out.distances[:, 0]
    for_ours = 1 - _ranks(ours, theirs)
    for_theirs = _ranks(theirs, ours)
    variance = for_ours.var() / len(ours) + for_theirs.var() / len(theirs)
    return Value(for_ours.mean().item(), variance.sqrt().item())


def _ranks(values: Tensor, among: Tensor) -> Tensor:
    """Share of `among` that is smaller than each value, (N,); equal values count half."""
    among = among.sort().values
    below, upto = (torch.searchsorted(among, values.contiguous(), right=right) for right in (False, True))
    return (below + upto).double() / (2 * len(among))


@dataclass(frozen=True)
class Pair:
    """A sample and its nearest training example."""

    sample: int
    train: int
    distance: float  # Euclidean distance
    ratio: float  # distance divided by that of the second nearest training example


def closest_pairs(near: Nearest) -> list[Pair]:
    """Return the samples with the smallest ratios, each with its nearest training example."""
    ratios = near.ratios
    return [
        Pair(i, int(near.indices[i, 0]), near.distances[i, 0].item(), ratios[i].item())
        for i in ratios.argsort(stable=True)[:NUM_PAIRS].tolist()
    ]


def near_training(sets: Sets, kind: Kind, who: Literal["samples", "reference"]) -> Nearest | None:
    """Find the two nearest training examples of the samples or of as many held-out examples; None without data."""
    queries, train = getattr(sets, who)[: len(sets.samples)], sets.train
    if train is None or getattr(queries, kind) is None:
        return None
    return sets.once((kind, who), lambda: nearest_two(getattr(queries, kind), getattr(train, kind)))


def copy_verdict(values: Mapping[str, Value], floor: Mapping[str, Value], samples: int) -> str:
    """Verdict on copies of training examples, in one line; empty without measures of copies.

    There are copies if their share, by pixels or by features, exceeds that of held-out examples by three standard
    errors. Otherwise the line reports if samples are nearer to training examples than held-out examples are.
    """
    kinds = [kind for kind in ("pixels", "features") if f"copied_{kind}" in values]
    if not kinds:
        return ""
    shares = [(values[f"copied_{kind}"].value, floor[f"copied_{kind}"].value, kind) for kind in kinds]
    ours, real, kind = max(shares, key=lambda one: one[0] - one[1])
    pooled = (ours + real) / 2
    if ours - real > CLEAR * max((2 * pooled * (1 - pooled) / samples) ** 0.5, 1 / samples):
        return f"verdict on copies: {ours:.1%} of samples are copies of training examples by {kind} (real: {real:.1%})"
    near = max((values[f"nearer_{kind}"] for kind in kinds), key=lambda one: one.value)
    if near.value - 0.5 > CLEAR * (near.standard_error or 0):
        return (
            f"verdict on copies: no more than among real examples, but {near.value:.0%} of samples are nearer to training "
            "examples than held-out ones are (50 % if equal): memorization begins"
        )
    return f"verdict on copies: none seen among {samples:,} samples"


def _columns(kind: Kind) -> dict[str, Column]:
    return {
        f"nearer_{kind}": Column(f"nearer to training data, {kind}", "0.5 if equal"),
        f"copied_{kind}": Column(f"copies by their {kind}", "lower is better", "share"),
    }


class FeatureCopiesMetric(Metric):
    """Nearness of samples to training examples, and share of copies, by features."""

    kind: Kind = "features"
    columns: ClassVar = _columns("features")

    def compute(self, sets: Sets) -> dict[str, Value]:
        """Compare the samples with the same number of held-out examples."""
        ours, theirs = near_training(sets, self.kind, "samples"), near_training(sets, self.kind, "reference")
        return {} if ours is None or theirs is None else dict(zip(self.columns, (nearer(ours, theirs), ours.copied)))

    def floor(self, sets: Sets) -> dict[str, Value]:
        """Measure held-out examples, because the nearest training example of a training example is itself."""
        theirs = near_training(sets, self.kind, "reference")
        return {} if theirs is None else dict(zip(self.columns, (Value(0.5), theirs.copied)))


class PixelCopiesMetric(FeatureCopiesMetric):
    """Nearness of samples to training examples, and share of copies, by pixels."""

    kind: Kind = "pixels"
    columns: ClassVar = _columns("pixels")
