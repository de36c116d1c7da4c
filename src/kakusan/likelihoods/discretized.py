"""The discretized Gaussian likelihood of 8-bit data."""

from __future__ import annotations

from torch import Tensor

from kakusan.checks import check_grid
from kakusan.distributions import LEVELS, DiscretizedNormal, Distribution, Normal
from kakusan.likelihoods.base import Likelihood, Output, gaussian

# A bin of width 2 / 255 is then 5 standard deviations wide. Narrower gains 1 %, and gradients overflow.
LOWEST_LOG_VAR = -13.0


class Discretized(Likelihood):
    """A probability of each of the 256 levels of [-1, 1] (M10); the decoder returns (mean, log_var) or the mean."""

    name = "discretized"
    has_log_var = True

    def check_values(self, x: Tensor) -> None:
        """InputError unless every value lies on the 256-level grid of [-1, 1]."""
        check_grid(x, LEVELS)

    def distribution(self, output: Output) -> Distribution:
        """A Gaussian integrated over the bin of each level."""
        return DiscretizedNormal(gaussian(output, LOWEST_LOG_VAR))

    def of_normal(self, normal: Normal) -> Distribution:
        """The Gaussian integrated over the bin of each level."""
        return DiscretizedNormal(normal)
