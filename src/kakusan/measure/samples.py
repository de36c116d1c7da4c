"""Everything that is measured of samples, beside the floor: real training pictures in their place.

Samples are held against held-out pictures. If a model has learnt the law of its training pictures, each number has the
law of its floor, also where the held-out pictures are of a slightly different kind, as MNIST's are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kakusan.errors import InputError
from kakusan.measure.classes import class_chi_square, class_shares, recognised
from kakusan.measure.classifier import features_and_probabilities
from kakusan.measure.copies import Nearest, nearer, nearest_two
from kakusan.measure.frechet import frechet_distances
from kakusan.measure.kernel import kernel_distance
from kakusan.measure.precision_recall import precision_recall
from kakusan.measure.two_sample import two_sample_accuracy
from kakusan.measure.value import Value
from kakusan.noise import stream

FEWEST = 100  # of samples and of each real set: below, a number says little
CLOSEST = 8
WORDS = {
    "frechet_distance": "Frechet distance, lower is better",
    "frechet_distance_unbiased": "  the same without its bias in n",
    "kernel_distance": "kernel distance, lower is better",
    "precision": "precision: samples among data",
    "recall": "recall: data among samples",
    "density": "density of data about samples",
    "coverage": "coverage of data by samples",
    "two_sample_accuracy": "told from data, 0.5 if equal",
    "class_chi_square": "classes' chi-square",
    "recognised": "classifier at least 90 % sure",
    "nearer_features": "nearer to training data, features",
    "nearer_pixels": "nearer to training data, pixels",
    "copied_features": "copies by their features",
    "copied_pixels": "copies by their pixels",
}


@dataclass(frozen=True)
class Pair:
    """A sample and the training picture that it is most like a copy of."""

    sample: int
    train: int
    distance: float  # Euclidean, in grey levels
    ratio: float  # to the distance of the second nearest training picture


@dataclass(frozen=True)
class Quality:
    """What was measured.

    Attributes:
        features: Whose features.
        num_samples: n; measures of other n do not compare.
        num_reference: Held-out examples.
        num_floor: Training examples in the place of samples; 0 where there is no floor.
        values: By the names of WORDS.
        floor: The same with training examples for samples; with held-out ones where training examples have an
            advantage: the measures of copying, and how many the classifier, which was trained on them, is sure of.
        classes: Share of each class among samples, reference and floor.
        closest: Pairs, the most alike first.
    """

    features: str
    num_samples: int
    num_reference: int
    num_floor: int
    values: dict[str, Value]
    floor: dict[str, Value]
    classes: dict[str, list[float]] = field(default_factory=dict)
    closest: list[Pair] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """As plain JSON values; a Frechet distance has its n in its name."""
        sets = {"measures": (self.values, self.num_samples), "floor": (self.floor, self.num_floor)}
        return {
            "features": self.features,
            "num_samples": self.num_samples,
            "num_reference": self.num_reference,
            "num_floor": self.num_floor,
            **{
                part: {_sized(name, num): value.record() for name, value in values.items()}
                for part, (values, num) in sets.items()
            },
            "classes": self.classes,
            "closest": [vars(pair) for pair in self.closest],
        }

    def lines(self) -> list[str]:
        """For people: each measure with its standard error, and its floor."""
        floor = (
            f"floor: {self.num_floor:,} training examples" if self.floor else "no floor: the file has no array train"
        )
        head = (
            f"{self.num_samples:,} samples against {self.num_reference:,} held out, features: {self.features}; {floor}"
        )
        return [head, *(self._line(name, value) for name, value in self.values.items())]

    def _line(self, name: str, value: Value) -> str:
        floor = f"   floor {_number(self.floor[name])}" if name in self.floor else ""
        return f"  {WORDS[name]:<36}{_number(value):<24}{floor}".rstrip()


def of_pictures(samples: np.ndarray, train: Tensor, test: Tensor, features: str = "digits") -> Quality:
    """Of pictures by the features of a shipped classifier.

    Args:
        samples: uint8 (n, 28, 28, 1).
        train: Training pictures, uint8 (N, 1, 28, 28).
        test: Held-out pictures, alike.
        features: "digits" or "fashion".

    Raises:
        InputError: For pictures of another shape, or fewer than 100 of a kind.
    """
    _check_sizes(len(samples), len(test), len(train))
    ours, real, held = (features_and_probabilities(part, features) for part in (samples, _last(train), _last(test)))
    rows, alike = (_order(len(part))[: len(samples)] for part in (train, test))  # as many as samples: for a floor
    values, floor = feature_values(ours[0], held[0]), feature_values(real[0][rows], held[0])
    classes = {"samples": ours[1], "reference": held[1], "floor": real[1][rows]}
    values["class_chi_square"] = class_chi_square(classes["samples"], classes["reference"])
    floor["class_chi_square"] = class_chi_square(classes["floor"], classes["reference"])
    values["recognised"], floor["recognised"] = recognised(classes["samples"]), recognised(classes["reference"])
    shares = {part: class_shares(probabilities) for part, probabilities in classes.items()}
    copy_values("features", values, floor, ours[0], real[0], held[0][alike])
    near = copy_values("pixels", values, floor, _flat(samples), _flat(_last(train)), _flat(_last(test[alike])))
    return Quality(features, len(samples), len(test), len(rows), values, floor, shares, closest_pairs(near))


def of_features(name: str, samples: Tensor, reference: Tensor, train: Tensor | None = None) -> Quality:
    """Of features (n, D) that were computed elsewhere, of samples, held-out examples and perhaps training examples.

    Raises:
        InputError: For fewer than 100 rows of a kind.
    """
    _check_sizes(*(len(part) for part in (samples, reference, train) if part is not None))
    values = feature_values(samples, reference)
    if train is None:
        return Quality(name, len(samples), len(reference), 0, values, {})
    rows, alike = (_order(len(part))[: len(samples)] for part in (train, reference))
    floor = feature_values(train[rows], reference)
    copy_values("features", values, floor, samples, train, reference[alike])
    return Quality(name, len(samples), len(reference), len(rows), values, floor)


def feature_values(samples: Tensor, reference: Tensor) -> dict[str, Value]:
    """The measures that ask for two sets of features alone, (n, D) in random order and (M, D) in any.

    Precision, recall, density and coverage take equal numbers of both.
    """
    reference = reference[_order(len(reference))]
    size = min(len(samples), len(reference))
    distance, unbiased = frechet_distances(samples, reference)
    return {
        "frechet_distance": distance,
        "frechet_distance_unbiased": unbiased,
        "kernel_distance": kernel_distance(samples, reference),
        **precision_recall(samples[:size], reference[:size]),
        "two_sample_accuracy": two_sample_accuracy(samples, reference),
    }


def copy_values(
    kind: str, values: dict[str, Value], floor: dict[str, Value], samples: Tensor, train: Tensor, held_out: Tensor
) -> Nearest:
    """Add how near the samples, and for the floor the held-out examples, are to training examples."""
    ours, theirs = nearest_two(samples, train), nearest_two(held_out, train)
    values[f"nearer_{kind}"], values[f"copied_{kind}"] = nearer(ours, theirs), ours.copied
    floor[f"nearer_{kind}"], floor[f"copied_{kind}"] = Value(0.5), theirs.copied
    return ours


def closest_pairs(near: Nearest) -> list[Pair]:
    """The samples most like copies, each with its nearest training example."""
    ratios = near.ratios
    return [
        Pair(i, int(near.indices[i, 0]), near.distances[i, 0].item(), ratios[i].item())
        for i in ratios.argsort(stable=True)[:CLOSEST].tolist()
    ]


def _order(size: int) -> Tensor:
    """A fixed permutation: data may lie sorted (the halves of MNIST's test part differ), and blocks must be alike."""
    return torch.randperm(size, generator=stream(0, "measure"))


def _last(pictures: Tensor) -> np.ndarray:
    """Channels last, as samples have them."""
    return pictures.permute(0, 2, 3, 1).numpy()


def _flat(pictures: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(pictures)).flatten(1)


def _check_sizes(*sizes: int) -> None:
    if min(sizes) < FEWEST:
        raise InputError(
            f"measures of samples need at least {FEWEST} samples, held-out and training examples each, got "
            f"{' and '.join(f'{size:,}' for size in sizes)}"
        )


def _sized(name: str, num: int) -> str:
    return f"{name}_n{num}" if name.startswith("frechet") else name


def _number(value: Value) -> str:
    error = "" if value.standard_error is None else f" ± {value.standard_error:.4f}"
    chance = "" if value.p_value is None else f" (p = {value.p_value:.2g})"
    return f"{value.value:.4f}{error}{chance}"
