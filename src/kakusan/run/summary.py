"""Numbers of a finished run: the terms of its bound, and its samples compared with real images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from kakusan.console import counted
from kakusan.data.dataset import Dataset
from kakusan.likelihood.evaluation import Evaluation
from kakusan.measure.samples import ANY, Quality
from kakusan.run.evaluate import NO_BOUND, error_words, measure_bound
from kakusan.run.families.conditional import known_labels
from kakusan.run.quality import can_measure, sample_quality
from kakusan.run.trained_model import TrainedModel

SUMMARY_SAMPLES, SUMMARY_SEED = 1000, 1
LEVELS_BITS = 8  # bits/dim of uniform noise over 256 gray levels


@dataclass(frozen=True)
class QualitySummary:
    """Measures of samples: entries of the summary, and the same as lines of text."""

    parts: dict[str, Any]
    lines: list[str]


def summarize(model: TrainedModel, dataset: Dataset, held_out: int) -> dict[str, Any]:
    """Measure the bound of the first held-out examples; return entries of the summary, and the same as lines of text."""
    if not model.family.has_bound:
        return {"lines": [NO_BOUND]}
    measured = measure_bound(
        model, dataset.test[:held_out], labels=known_labels(model.recipe.model, dataset, "test", held_out)
    )
    result = measured.result
    rate = dataset.form.rate(result.bits_per_dim, result.standard_error, result.num_dims)
    counts = f"{counted(result.num_images, 'example')}, {counted(result.network_evaluations, 'network evaluation')}"
    lines = [
        f"held-out bound: {rate} = {result.bits_per_example:.1f} bits per example ({counts})",
        f"  {error_words(result, dataset.form)}",
        *measured.lines,
        *floor_lines(model, result),
    ]
    if held_out < len(dataset.test):
        lines.append(f"  the first {held_out:,} of {len(dataset.test):,}; the command evaluate measures all")
    found = {"likelihood": result.record(), **measured.details, "lines": lines}
    floor = floor_bits(model)
    return found if floor is None else {**found, "floor_bits_per_dim": floor}


def floor_lines(model: TrainedModel, result: Evaluation) -> list[str]:
    """Compare a bound with the least value that its model can reach, or caution that it is worse than uniform noise."""
    floor = floor_bits(model)
    if floor is not None:
        above = result.bits_per_dim - floor
        return [f"  {above:.4f} bits/dim above {floor:.4f}, the least that a density of unit variance can reach"]
    return noise_caution(model, result.bits_per_dim)


def noise_caution(model: TrainedModel, bits_per_dim: float) -> list[str]:
    """Caution that a bound is worse than uniform noise, unless the model's own floor may be above it."""
    if model.measured_in == "gray levels" and bits_per_dim > LEVELS_BITS and floor_bits(model) is None:
        return [f"caution: above the {LEVELS_BITS} bits/dim of uniform noise; train longer"]
    return []


def floor_bits(model: TrainedModel) -> float | None:
    """Return the least bits/dim that a model with fixed unit variance can reach on 8-bit images; None for other models.

    A density N(x; mean, 1) is at most (2 pi)^{-1/2}, and the width of a gray level turns it into a probability. For a
    diffusion model with unit variance the reverse steps add a cost that the network cannot reduce.
    """
    width = model.family.density_bin_width(model.recipe.model)
    if width is None:
        return None
    least = model.family.least_nats(model)
    if least is None:
        return None
    return (0.5 * math.log(2 * math.pi) - math.log(width) + least) / math.log(2)


def quality_of(model: TrainedModel, dataset: Dataset, num: int) -> QualitySummary:
    """Draw and measure samples of images; the result is empty for other data, and for too few images."""
    if not can_measure(model, dataset, num):
        return QualitySummary({}, [])
    if model.recipe.data != "mnist":
        quality = sample_quality(model, dataset, num, SUMMARY_SEED, ANY)
        return QualitySummary({"samples": quality.record()}, any_lines(quality))
    quality = sample_quality(model, dataset, num, SUMMARY_SEED)
    recognized = {
        "samples": quality.values["recognized"].value,
        "real": quality.floor["recognized"].value,
        "num_samples": quality.num_samples,
    }
    return QualitySummary({"samples": quality.record(), "recognized": recognized}, quality_lines(quality))


def any_lines(quality: Quality) -> list[str]:
    """Return the main measures of any images as lines of text."""
    distance, real = quality.values["frechet_distance"], quality.floor["frechet_distance"]
    lines = [
        f"Fréchet distance in {quality.features} features, n = {quality.num_samples:,}: {distance.value:.2f} ± "
        f"{distance.standard_error:.2f} (real training images: {real.value:.2f})"
    ]
    if (grid := quality.values.get("grid_power")) is not None:
        lines.append(f"power of a 2 x 2 grid: {grid} times that of real images")
    return [*lines, *filter(None, [quality.verdict])]


def quality_lines(quality: Quality) -> list[str]:
    """Return the main measures as lines of text."""
    sure, distance = quality.values["recognized"], quality.values["frechet_distance"]
    real = quality.floor
    return [
        f"a digit classifier labels {sure.value:.1%} of {quality.num_samples:,} samples with at least 90 % confidence "
        f"(real test digits: {real['recognized'].value:.1%})",
        f"Fréchet distance in its features, n = {quality.num_samples:,}: {distance.value:.2f} ± "
        f"{distance.standard_error:.2f} (real training digits: {real['frechet_distance'].value:.2f})",
    ]
