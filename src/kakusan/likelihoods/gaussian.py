"""The Gaussian likelihood of real-valued data."""

from __future__ import annotations

from torch import Tensor

from kakusan.checks import check_finite
from kakusan.distributions import Distribution, Normal
from kakusan.likelihoods.base import Likelihood, Output, gaussian


class Gaussian(Likelihood):
    """A density of real values; the decoder returns the mean, with unit variance, or (mean, log_var)."""

    name = "gaussian"
    low = 0.0
    squashed = True
    is_density = True

    def check_values(self, x: Tensor) -> None:
        """InputError for NaN and infinity."""
        check_finite(x)

    def distribution(self, output: Output) -> Distribution:
        """N(mean, exp(log_var)), or N(mean, 1)."""
        return gaussian(output)

    def of_normal(self, normal: Normal) -> Distribution:
        """The Gaussian itself."""
        return normal
