"""The Gaussian likelihood of real-valued data."""

from __future__ import annotations

from torch import Tensor

from kakusan.checks import check_finite
from kakusan.distributions import Distribution, Normal
from kakusan.likelihoods.base import Likelihood, Output, gaussian


class Gaussian(Likelihood):
    """Density of real values; the decoder returns (mean, log_var), or the mean for unit variance."""

    name = "gaussian"
    low = 0.0
    squashed = True
    is_density = True

    def check_values(self, x: Tensor) -> None:
        """Raise an InputError for NaN and infinity."""
        check_finite(x)

    def distribution(self, output: Output) -> Distribution:
        """Return N(mean, exp(log_var)), or N(mean, 1)."""
        return gaussian(output)

    def of_normal(self, normal: Normal) -> Distribution:
        """Return the Gaussian of the reverse step itself."""
        return normal
