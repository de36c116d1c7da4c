"""Nats inside, bits per dimension at the edge: the only module that knows log 2."""

from __future__ import annotations

import math
from typing import TypeVar

from torch import Tensor

from kakusan.errors import InputError

Nats = TypeVar("Nats", Tensor, float)


def bits_per_dim(nats: Nats, num_dims: int) -> Nats:
    """Turn a log-likelihood, or a lower bound of one, into a rate (theory M11).

    Args:
        nats: Of whole examples, higher is better, any shape.
        num_dims: Scalars in one example, e.g. 3 * 32 * 32.

    Returns:
        Bits per dimension, lower is better, the shape of `nats`.

    Raises:
        InputError: If num_dims is not positive.

    Example:
        >>> bits_per_dim(-math.log(256.0), num_dims=1)  # a fair byte
        8.0
    """
    if num_dims <= 0:
        raise InputError(f"num_dims must be a positive number of scalars, got {num_dims}; pass x[0].numel()")
    return -nats / (num_dims * math.log(2))


def density_to_bits_per_dim(nats: Nats, num_dims: int, bin_width: float) -> Nats:
    """Rate of data that lie on a grid, from the log-density of a continuous model of them (theory M11).

    A bin of width w holds about density * w of probability, so `num_dims * log(w)` is added to the nats.
    It is a bound where the data were dequantised with uniform noise, an approximation where they were not.

    Args:
        nats: Log-densities of whole examples.
        num_dims: Scalars in one example.
        bin_width: Distance of neighbouring grid values in the scale of the model, e.g. 2 / 255.
    """
    return bits_per_dim(nats + num_dims * math.log(bin_width), num_dims)
