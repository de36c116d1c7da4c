"""Fréchet distance of two sets of features, from their means and covariances.

Between N(m, A) and N(r, B) it is ||m - r||^2 + tr A + tr B - 2 tr (A^1/2 B A^1/2)^1/2, the squared 2-Wasserstein
distance. Sources: Dowson and Landau 1982; Heusel et al. 2017, who use Inception features. The value depends on the
features and on the number n of samples. Its bias falls as 1 / n, so only values with equal n are comparable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from kakusan.errors import InputError
from kakusan.measure.metric import Column, Metric, Sets, Value, in_random_order, pair

BLOCKS = 20  # largest number of jackknife blocks of each set


@dataclass(frozen=True)
class Moments:
    """Mean (D,) and a matrix root of the covariance, (r, D), with covariance = root^T root."""

    mean: Tensor
    root: Tensor


def moments(features: Tensor) -> Moments:
    """Mean and unbiased covariance of features (N, D), N >= 2, in float64."""
    if len(features) < 2:
        raise InputError(f"a covariance needs at least two rows of features, got {len(features)}")
    features = features.double()
    mean = features.mean(0)
    return Moments(mean, torch.linalg.qr(features - mean, mode="r").R / (len(features) - 1) ** 0.5)


def gaussian_distance(a: Moments, b: Moments) -> float:
    """Squared 2-Wasserstein distance of two Gaussians.

    With A = R^T R and B = S^T S, tr (A^1/2 B A^1/2)^1/2 is the sum of the singular values of R S^T. This needs no
    matrix square root, so the covariances need not have full rank.
    """
    overlap = torch.linalg.svdvals(a.root @ b.root.T).sum()
    traces = a.root.square().sum() + b.root.square().sum()
    return ((a.mean - b.mean).square().sum() + traces - 2 * overlap).item()


def frechet_distance(samples: Tensor, reference: Tensor) -> float:
    """Fréchet distance of two sets of features (N, D) and (M, D), at least two each."""
    return gaussian_distance(*map(moments, pair(samples, reference)))


def frechet_distances(samples: Tensor, reference: Tensor) -> tuple[Value, Value]:
    """Fréchet distance, and the distance without its bias in N and M, with the same standard error.

    The jackknife leaves out each block of either set in turn. The mean change of the distance estimates the bias of
    order 1 / N + 1 / M, and the variance of the changes estimates the error. For equal distributions the second value
    is about 0, of either sign, and the standard error is conservative. Sources: Quenouille 1956; Tukey 1958; Busing,
    Meijer and van der Leeden 1999 for blocks of unequal sizes; Chong and Forsyth 2020 for the bias.
    """
    samples, reference = map(in_random_order, pair(samples, reference))
    ours, theirs = moments(samples), moments(reference)
    whole = gaussian_distance(ours, theirs)
    without_ours = [gaussian_distance(moments(rest), theirs) for rest in _leave_one_out(samples)]
    without_theirs = [gaussian_distance(ours, moments(rest)) for rest in _leave_one_out(reference)]
    bias, variance = 0.0, 0.0
    for size, parts in ((len(samples), without_ours), (len(reference), without_theirs)):
        one_bias, one_variance = _jackknife(whole, parts, size)
        bias, variance = bias + one_bias, variance + one_variance
    return Value(whole, variance**0.5), Value(whole - bias, variance**0.5)


def _leave_one_out(features: Tensor) -> list[Tensor]:
    """Copies of the features, each without one of the blocks."""
    blocks = features.tensor_split(_num_blocks(len(features)))
    return [torch.cat([*blocks[:k], *blocks[k + 1 :]]) for k in range(len(blocks))]


def _num_blocks(size: int) -> int:
    if size < 4:
        raise InputError(f"a standard error of the Fréchet distance needs at least four rows of features, got {size}")
    return min(BLOCKS, size // 2)


def _jackknife(whole: float, parts: list[float], size: int) -> tuple[float, float]:
    """Bias and variance of a statistic of `size` rows, from its value `whole` and its values without each block."""
    lengths = [len(block) for block in torch.arange(size).tensor_split(len(parts))]
    mean = len(parts) * whole - sum((1 - length / size) * part for length, part in zip(lengths, parts))
    variance = 0.0
    for length, part in zip(lengths, parts):
        ratio = size / length
        variance += (ratio * whole - (ratio - 1) * part - mean) ** 2 / (ratio - 1) / len(parts)
    return whole - mean, variance


class FrechetMetric(Metric):
    """Fréchet distance, with and without its bias."""

    columns: ClassVar = {
        "frechet_distance": Column("Fréchet distance", "lower is better", depends_on_n=True),
        "frechet_distance_unbiased": Column("  without its bias in n", "lower is better", depends_on_n=True),
    }

    def compute(self, sets: Sets) -> dict[str, Value]:
        """Compare the features of the samples with those of held-out examples."""
        return dict(zip(self.columns, frechet_distances(sets.samples.features, sets.reference.features)))
