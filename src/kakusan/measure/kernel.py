"""Kernel distance: unbiased squared maximum mean discrepancy with the kernel (x.y / D + 1)^3.

Sources: Gretton et al. 2012; Binkowski et al. 2018 (KID) for the kernel; Zaremba, Gretton and Blaschko 2013 for the
average over independent blocks, which is nearly normal even for equal distributions.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from kakusan.errors import InputError
from kakusan.measure.metric import Column, Metric, Sets, Value, in_random_order, pair

BLOCKS = 20


def kernel_distance(samples: Tensor, reference: Tensor) -> Value:
    """Kernel distance of two sets of features (N, D) and (M, D), at least four rows each.

    For equal distributions its mean is 0, and it may be negative.
    Each block of the samples is compared with one block of the reference. The blocks' values are independent, and
    their variance gives the standard error.
    """
    samples, reference = map(in_random_order, pair(samples, reference))
    if min(len(samples), len(reference)) < 4:
        raise InputError(f"a kernel distance needs at least four rows of each, got {len(samples)} and {len(reference)}")
    blocks = min(BLOCKS, len(samples) // 2, len(reference) // 2)
    parts = zip(samples.double().tensor_split(blocks), reference.double().tensor_split(blocks))
    values = torch.stack([discrepancy(ours, theirs) for ours, theirs in parts])
    return Value(values.mean().item(), (values.std() / blocks**0.5).item())


def discrepancy(x: Tensor, y: Tensor) -> Tensor:
    """Unbiased squared maximum mean discrepancy of x (n, D) and y (m, D): no row is paired with itself."""
    return _mean_of_pairs(x) + _mean_of_pairs(y) - 2 * _kernel(x, y).mean()


def _mean_of_pairs(x: Tensor) -> Tensor:
    kernel = _kernel(x, x)
    return (kernel.sum() - kernel.diagonal().sum()) / (len(x) * (len(x) - 1))


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1).pow(3)


class KernelMetric(Metric):
    """Kernel distance between the features of samples and of held-out examples."""

    columns: ClassVar = {"kernel_distance": Column("kernel distance", "lower is better")}

    def compute(self, sets: Sets) -> dict[str, Value]:
        """Compare the features of the samples with those of held-out examples."""
        return {"kernel_distance": kernel_distance(sets.samples.features, sets.reference.features)}
