"""Kernel distance: squared maximum mean discrepancy with the kernel (x.y / D + 1)^3, without bias, with an error.

Sources: Gretton et al. 2012; Binkowski et al. 2018 (KID) for the kernel; Zaremba, Gretton and Blaschko 2013 for the
average over independent blocks, which is near normal also where the two laws are equal.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kakusan.measure.value import Value

BLOCKS = 20


def kernel_distance(samples: Tensor, reference: Tensor) -> Value:
    """Of two sets of features (N, D) and (M, D), each at least four; 0 on average for equal laws, of either sign.

    Each block of the samples meets one block of the reference, so that the blocks' values are independent and their
    spread tells the standard error.
    """
    if min(len(samples), len(reference)) < 4:
        raise ValueError(f"a kernel distance needs at least four rows of each, got {len(samples)} and {len(reference)}")
    blocks = min(BLOCKS, len(samples) // 2, len(reference) // 2)
    parts = zip(samples.double().tensor_split(blocks), reference.double().tensor_split(blocks))
    values = torch.stack([discrepancy(ours, theirs) for ours, theirs in parts])
    return Value(values.mean().item(), (values.std() / blocks**0.5).item())


def discrepancy(x: Tensor, y: Tensor) -> Tensor:
    """Unbiased squared maximum mean discrepancy of x (n, D) and y (m, D): no row meets itself."""
    return _mean_of_pairs(x) + _mean_of_pairs(y) - 2 * _kernel(x, y).mean()


def _mean_of_pairs(x: Tensor) -> Tensor:
    kernel = _kernel(x, x)
    return (kernel.sum() - kernel.diagonal().sum()) / (len(x) * (len(x) - 1))


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1).pow(3)
