"""The discretized Gaussian likelihood of 8-bit data."""

from __future__ import annotations

from torch import Tensor

from kakusan.checks import check_grid
from kakusan.distributions import LEVELS, DiscretizedNormal, Distribution, Normal
from kakusan.likelihoods.base import Likelihood, Output, gaussian

# At this limit a bin of width 2 / 255 is 5 standard deviations wide. A lower limit gains 1 %, and gradients overflow.
LOWEST_LOG_VAR = -13.0


class Discretized(Likelihood):
    """Probabilities of the 256 levels of [-1, 1] (M10); the decoder returns (mean, log_var) or the mean."""

    name = "discretized"
    has_log_var = True

    def check_values(self, x: Tensor) -> None:
        """Raise an InputError unless every value lies on the 256-level grid of [-1, 1]."""
        check_grid(x, LEVELS)

    def distribution(self, output: Output) -> Distribution:
        """Gaussian of a decoder's output, integrated over the bin of each level."""
        return DiscretizedNormal(gaussian(output, LOWEST_LOG_VAR))

    def of_normal(self, normal: Normal) -> Distribution:
        """Gaussian of a reverse step, integrated over the bin of each level."""
        return DiscretizedNormal(normal)
