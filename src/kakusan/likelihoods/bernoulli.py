"""The Bernoulli likelihood of binary data."""

from __future__ import annotations

from torch import Tensor

from kakusan.checks import check_bits
from kakusan.distributions import Bernoulli as Bits
from kakusan.distributions import Distribution
from kakusan.errors import InputError
from kakusan.likelihoods.base import Likelihood, Output


class Bernoulli(Likelihood):
    """Independent bits; the decoder returns their log-odds as one tensor."""

    name = "bernoulli"
    low = 0.0
    binary = True

    def check_values(self, x: Tensor) -> None:
        """Raise an InputError unless every value is 0 or 1."""
        check_bits(x)

    def distribution(self, output: Output) -> Distribution:
        """Independent bits with these log-odds."""
        if isinstance(output, tuple):
            raise InputError("a bernoulli decoder returns log-odds, one tensor; got a tuple")
        return Bits(output)
