"""Units: nats inside the library, bits per dimension in reports. Only this module converts between them."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor

from kakusan.errors import InputError

Nats = TypeVar("Nats", Tensor, float)


def bits_per_dim(nats: Nats, num_dims: int) -> Nats:
    """Convert a log-likelihood, or a lower bound of one, to bits per dimension (theory M11).

    Args:
        nats: Log-likelihood of whole examples; higher is better. Any shape.
        num_dims: Number of scalars in one example, e.g. 3 * 32 * 32.

    Returns:
        Bits per dimension, in the shape of `nats`; lower is better.

    Raises:
        InputError: If num_dims is not positive.

    Example:
        >>> bits_per_dim(-math.log(256.0), num_dims=1)  # a fair byte
        8.0
    """
    if num_dims <= 0:
        raise InputError(f"num_dims must be a positive number of scalars, got {num_dims}; pass x[0].numel()")
    if (
        not isinstance(nats, Tensor | float | int)
        or isinstance(nats, bool)
        or getattr(nats, "dtype", None) == torch.bool
    ):
        raise InputError(f"nats must be a tensor or a number, got {getattr(nats, 'dtype', type(nats).__name__)}")
    return -nats / (num_dims * math.log(2))


def grid_nats(num_dims: int, bin_width: float) -> float:
    """Offset in nats from the log-density of data on a grid to the log-probability of an example (M11).

    A bin of width w has a probability of about density * w. With this offset the bound of a continuous model is valid
    for data that were dequantized with uniform noise, and otherwise an approximation.

    Args:
        num_dims: Number of scalars in one example.
        bin_width: Distance of adjacent grid values in the scale of the model, e.g. 2 / 255.

    Raises:
        InputError: If either is not positive.
    """
    if num_dims <= 0 or not 0 < bin_width < math.inf:
        raise InputError(f"a grid needs num_dims > 0 and a finite bin_width > 0, got {num_dims} and {bin_width}")
    return num_dims * math.log(bin_width)


def nats(bits_per_dim: float, num_dims: int) -> float:
    """Convert bits per dimension to nats per example, both lower is better. It inverts `bits_per_dim` up to the sign."""
    return bits_per_dim * num_dims * math.log(2)
