"""How far samples are from real digits, as a row of a table."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from torch import Tensor

from kakusan.data.mnist import mnist
from kakusan.measure.classifier import features_and_probabilities
from kakusan.measure.frechet import frechet_distances

SURE = 0.9
NOTE = (
    "The Frechet distance is between the 64 features of the shipped digit classifier, of n samples and of all 10,000 test "
    "digits, with one standard error (jackknife). Its bias falls as 1 / n; the column without bias has it taken away. "
    "Recognised: the classifier is at least 90 % sure."
)


@cache
def real() -> Tensor:
    """Features of the test digits."""
    return features_and_probabilities(mnist().test.permute(0, 2, 3, 1).numpy(), "digits")[0]


def quality(pictures: np.ndarray) -> dict[str, Any]:
    """Of uint8 (n, 28, 28, 1)."""
    features, probabilities = features_and_probabilities(pictures, "digits")
    distance, corrected = frechet_distances(features, real())
    return {
        "n": len(pictures),
        "Frechet distance": round(distance.value, 4),
        "standard error": round(distance.standard_error, 4),
        "without bias": round(corrected.value, 4),
        "recognised": round((probabilities.amax(1) >= SURE).double().mean().item(), 4),
    }
