"""Measures of sample quality from arrays of images or features, without a model.

`frechet_distance(samples, reference)` and the other functions take features (N, D). `features(images)` computes
features of 28 x 28 gray images, and `measure_images(samples, train, test)` measures images of any size. To add a measure
to `kakusan evaluate --samples`, write a `Metric` in one file and add one line to `METRICS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kakusan.registry import Registry, lazy_names

if TYPE_CHECKING:
    from kakusan.measure.classes import class_chi_square, class_shares, recognized
    from kakusan.measure.classifier import features, features_and_probabilities
    from kakusan.measure.copies import nearer, nearest_two
    from kakusan.measure.frechet import frechet_distance, frechet_distances
    from kakusan.measure.kernel import kernel_distance
    from kakusan.measure.manifolds import precision_recall
    from kakusan.measure.metric import Column, Examples, Metric, Sets, Value
    from kakusan.measure.samples import Quality, measure_features, measure_images
    from kakusan.measure.two_sample import two_sample_accuracy

METRICS = Registry(
    "metric",
    {
        "frechet": "kakusan.measure.frechet:FrechetMetric",
        "kernel": "kakusan.measure.kernel:KernelMetric",
        "precision-recall": "kakusan.measure.manifolds:PrecisionRecallMetric",
        "two-sample": "kakusan.measure.two_sample:TwoSampleMetric",
        "classes": "kakusan.measure.classes:ClassChiSquareMetric",
        "recognized": "kakusan.measure.classes:RecognizedMetric",
        "copies-features": "kakusan.measure.copies:FeatureCopiesMetric",
        "grid": "kakusan.measure.grid:GridMetric",
        "copies-pixels": "kakusan.measure.copies:PixelCopiesMetric",
    },
)

_NAMES = {
    "frechet": ("frechet_distance", "frechet_distances"),
    "kernel": ("kernel_distance",),
    "manifolds": ("precision_recall",),
    "two_sample": ("two_sample_accuracy",),
    "classes": ("class_chi_square", "class_shares", "recognized"),
    "copies": ("nearest_two", "nearer"),
    "classifier": ("features", "features_and_probabilities"),
    "samples": ("measure_images", "measure_features", "Quality"),
    "metric": ("Column", "Examples", "Metric", "Sets", "Value"),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}
__all__ = [
    "METRICS",
    "Column",
    "Examples",
    "Metric",
    "Quality",
    "Sets",
    "Value",
    "class_chi_square",
    "class_shares",
    "features",
    "features_and_probabilities",
    "frechet_distance",
    "frechet_distances",
    "kernel_distance",
    "measure_features",
    "measure_images",
    "nearer",
    "nearest_two",
    "precision_recall",
    "recognized",
    "two_sample_accuracy",
]


__getattr__, __dir__ = lazy_names(__name__, _HOMES, __all__)
