"""Distance of samples from real digits, by the features of the shipped digit classifier."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kakusan.data.digits import mnist
from kakusan.measure.classes import class_chi_square, recognized
from kakusan.measure.classifier import features_and_probabilities
from kakusan.measure.frechet import frechet_distances
from kakusan.measure.manifolds import precision_recall
from kakusan.measure.metric import Value

NOTE = (
    "The Fréchet distance is that between n samples and all 10,000 test digits, by the 64 features of the shipped digit "
    "classifier, with one standard error (jackknife). Its bias falls as 1 / n and is removed in the column without bias. "
    "Recognized: the classifier's confidence is at least 90 %."
)


class Seen(NamedTuple):
    """Features and class probabilities of images."""

    features: Tensor  # (n, 64)
    probabilities: Tensor  # (n, 10)


@cache
def real() -> Seen:
    """Test digits in a fixed random order: as distributed their halves differ, and blocks must be comparable."""
    digits = mnist().test
    digits = digits[torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))]
    return Seen(*features_and_probabilities(digits.permute(0, 2, 3, 1).numpy(), "digits"))


def measures(pictures: np.ndarray) -> dict[str, Value]:
    """Measures of images uint8 (n, 28, 28, 1), named as in kakusan.measure; precision and recall use equal numbers."""
    ours, theirs = Seen(*features_and_probabilities(pictures, "digits")), real()
    distance, unbiased = frechet_distances(ours.features, theirs.features)
    size = min(len(pictures), len(theirs.features))
    return {
        "frechet_distance": distance,
        "frechet_distance_unbiased": unbiased,
        "recognized": recognized(ours.probabilities),
        **precision_recall(ours.features[:size], theirs.features[:size]),
        "class_chi_square": class_chi_square(ours.probabilities, theirs.probabilities),
    }


def quality(pictures: np.ndarray) -> dict[str, Any]:
    """Columns of a table for images uint8 (n, 28, 28, 1)."""
    found = measures(pictures)
    distance = found["frechet_distance"]
    assert distance.standard_error is not None, "the jackknife gives one"
    return {
        "n": len(pictures),
        "Fréchet distance": round(distance.value, 4),
        "standard error": round(distance.standard_error, 4),
        "without bias": round(found["frechet_distance_unbiased"].value, 4),
        "recognized": round(found["recognized"].value, 4),
    }
