"""All measures of samples, each with the score of real examples: the same measure of training examples.

Samples are compared with held-out examples. If a model has learned the distribution of its training examples, its scores
and those of real examples have the same distribution. This holds even if training and held-out examples differ slightly,
as those of MNIST do. In names, the score of real examples is `floor`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kakusan.errors import InputError
from kakusan.measure import METRICS, multiscale
from kakusan.measure.classes import class_shares
from kakusan.measure.classifier import features_and_probabilities
from kakusan.measure.copies import Pair, closest_pairs, copy_verdict, near_training
from kakusan.measure.grid import grid_power
from kakusan.measure.metric import Column, Examples, Sets, Value, pair, shuffled
from kakusan.progress import progress

ANY = multiscale.NAME
MOST_TRAIN = 50_000  # largest number of training images compared; of more, a fixed random choice
FEWEST = 100  # smallest size of each set, because values for fewer examples are too noisy


@dataclass(frozen=True)
class Quality:
    """Measured quality of samples.

    Attributes:
        features: Name of the features.
        num_samples: Number n of samples; some measures are comparable only for equal n.
        num_reference: Number of held-out examples.
        num_floor: Number of training examples that are scored like samples; 0 without training examples.
        values: Scores of the samples, by name.
        floor: Scores of training examples, by name; of held-out ones where training examples have an advantage.
        columns: Display of each value.
        classes: Share of each class among the samples, the held-out and the training examples.
        closest: Samples that most resemble copies.
    """

    features: str
    num_samples: int
    num_reference: int
    num_floor: int
    values: dict[str, Value]
    floor: dict[str, Value]
    columns: dict[str, Column]
    classes: dict[str, list[float]] = field(default_factory=dict)
    closest: list[Pair] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """Return plain JSON values; names of values that depend on n end in the number n."""
        return {
            "features": self.features,
            "num_samples": self.num_samples,
            "num_reference": self.num_reference,
            "num_floor": self.num_floor,
            "measures": {self._sized(name, self.num_samples): value.record() for name, value in self.values.items()},
            "floor": {self._sized(name, self.num_floor): value.record() for name, value in self.floor.items()},
            "classes": self.classes,
            "closest": [vars(pair) for pair in self.closest],
            **({"copies": self.verdict} if self.verdict else {}),
        }

    def lines(self) -> list[str]:
        """Return lines for people: each value with its standard error, and the score of real examples."""
        real = (
            f"real: {self.num_floor:,} training examples, scored in the same way"
            if self.floor
            else "no training examples"
        )
        width = max(len(str(self.columns[name])) for name in self.values)
        return [
            f"{self.num_samples:,} samples against {self.num_reference:,} held out, features: {self.features}; {real}",
            *(self._line(name, value, width) for name, value in self.values.items()),
            *filter(None, [self.verdict]),
        ]

    @property
    def verdict(self) -> str:
        """Verdict on copies of training examples, in words; empty without training examples."""
        return copy_verdict(self.values, self.floor, self.num_samples) if self.floor else ""

    def _line(self, name: str, value: Value, width: int) -> str:
        real = f"   real {self.floor[name]}" if name in self.floor else ""
        return f"  {self.columns[name]!s:<{width}}  {value!s:<20}{real}".rstrip()

    def _sized(self, name: str, num: int) -> str:
        return f"{name}_n{num}" if self.columns[name].depends_on_n else name


def measure_images(samples: np.ndarray, train: Tensor, test: Tensor, features: str = "digits") -> Quality:
    """Measure images by their features.

    Args:
        samples: Generated images, uint8 (n, H, W, C).
        train: Training images, uint8 (N, C, H, W); of more than 50,000 a fixed random choice is compared.
        test: Held-out images, uint8 (M, C, H, W).
        features: "digits" or "fashion", from a classifier of gray 28 x 28 images, or "multiscale", for any images.

    Raises:
        InputError: If images have another shape, or a set has fewer than 100.
    """
    _check_sizes(len(samples), len(test), len(train))
    chosen = shuffled(len(train))[:MOST_TRAIN].sort().values if len(train) > MOST_TRAIN else None
    train = train if chosen is None or features != ANY else train[chosen]
    test = test[:MOST_TRAIN] if features == ANY else test
    if features == ANY:
        ours, real, held = _multiscale(samples, _last(train), _last(test))
    else:
        ours, real, held = (_images(part, features) for part in (samples, _last(train), _last(test)))
    sets = Sets(ours, held[shuffled(len(held))], real)
    floor = real[shuffled(len(real))[: len(ours)]]
    found = _measure(features, sets)
    probabilities = {"samples": ours.probabilities, "reference": held.probabilities, "floor": floor.probabilities}
    found.classes.update({part: class_shares(each) for part, each in probabilities.items() if each is not None})
    near = near_training(sets, "pixels", "samples")
    assert near is not None, "images have pixels"
    pairs = closest_pairs(near)
    if chosen is not None and features == ANY:
        pairs = [replace(pair, train=int(chosen[pair.train])) for pair in pairs]
    found.closest.extend(pairs)
    return found


def measure_features(name: str, samples: Tensor, reference: Tensor, train: Tensor | None = None) -> Quality:
    """Measure features (n, D) of samples against those of held-out examples.

    Args:
        name: Name of the features.
        samples: Features of the samples, in any order.
        reference: Features of held-out examples, in any order.
        train: Features of training examples, for the score of real examples.

    Raises:
        InputError: If a set has fewer than 100 rows.
    """
    _check_sizes(*(len(part) for part in (samples, reference, train) if part is not None))
    ours, held = map(Examples, pair(samples, reference))
    real = None if train is None else Examples(pair(train, reference)[0])
    return _measure(name, Sets(ours, held[shuffled(len(held))], real))


def _measure(name: str, sets: Sets) -> Quality:
    metrics = [make() for make in METRICS.values()]
    values, floor = {}, {}
    for metric in progress(metrics, "measuring samples"):
        values |= metric.compute(sets)
        floor |= {} if sets.train is None else metric.floor(sets)
    columns = {key: column for metric in metrics for key, column in metric.columns.items()}
    if sets.train is None:
        return Quality(name, len(sets.samples), len(sets.reference), 0, values, {}, columns)
    num_floor = min(len(sets.samples), len(sets.train))
    return Quality(name, len(sets.samples), len(sets.reference), num_floor, values, floor, columns)


def _images(images: np.ndarray, features: str) -> Examples:
    pixels = torch.from_numpy(np.array(images)).flatten(1)
    return Examples(*features_and_probabilities(images, features), pixels, grid_power(images))


def _multiscale(samples: np.ndarray, train: np.ndarray, test: np.ndarray) -> list[Examples]:
    """Examples with features that need no classifier, scaled by those of the training images."""
    if samples.shape[1:] != train.shape[1:] or samples.dtype != np.uint8:
        raise InputError(f"samples must be uint8 of shape {train.shape[1:]}, got {samples.dtype} {samples.shape[1:]}")
    sets = [np.asarray(part) for part in (samples, train, test)]
    raw = [multiscale.raw_features(part) for part in sets]
    mean, scale = multiscale.scaling(raw[1])
    return [
        Examples((each - mean) / scale, None, multiscale.compared_pixels(part), grid_power(part))
        for each, part in zip(raw, sets)
    ]


def _last(images: Tensor) -> np.ndarray:
    """Images with channels last, like samples, uint8 (N, H, W, C)."""
    return images.permute(0, 2, 3, 1).numpy()


def _check_sizes(*sizes: int) -> None:
    if min(sizes) < FEWEST:
        raise InputError(
            f"measures of samples need at least {FEWEST} samples, held-out examples and training examples each, got "
            f"{' and '.join(f'{size:,}' for size in sizes)}"
        )
