"""p(x | z): what a decoder's output means for the data. The three likelihoods of a VAE's lowest level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor

from kakusan.checks import check_bits, check_event, check_finite, check_grid
from kakusan.distributions import LEVELS, Bernoulli, DiscretizedNormal, Distribution, Normal
from kakusan.errors import InputError

Likelihood = Literal["gaussian", "bernoulli", "discretized"]
# On the grid of 2 / 255 a bin is then 5 standard deviations wide: narrower gains 1 %, and its gradients overflow.
LOWEST_GRID_LOG_VAR = -13.0
Output = Tensor | tuple[Tensor, Tensor]


def check_likelihood(likelihood: str) -> None:
    """Raise InputError unless the name is one of ours."""
    if likelihood not in get_args(Likelihood):
        raise InputError(f"likelihood must be one of {', '.join(get_args(Likelihood))}, got {likelihood!r}")


def check_data(likelihood: Likelihood, x: Tensor, event_shape: Sequence[int] | None = None) -> None:
    """InputError unless x is a batch of examples of this shape whose values the likelihood gives a probability to."""
    check_event(x, event_shape)
    match likelihood:
        case "gaussian":
            check_finite(x)
        case "discretized":
            check_grid(x, LEVELS)
        case "bernoulli":
            check_bits(x)


def gaussian(output: Output, lowest_log_var: float = -200.0) -> Normal:
    """A mean alone has unit variance, as in the notes (S4, S13); a pair is (mean, log_var)."""
    if isinstance(output, tuple):
        mean, log_var = output
        return Normal.from_log_var(mean, limit_log_var(log_var, lowest_log_var))
    return Normal(output, output.new_ones(()), output.new_zeros(()))


def observation(likelihood: Likelihood, output: Output) -> Distribution:
    """The distribution of x that a decoder's output stands for.

    Args:
        likelihood: "gaussian": real x, output is the mean or (mean, log_var).
            "discretized": x on the 256-level grid of [-1, 1], output as for "gaussian" (theory M10).
            "bernoulli": x in {0, 1}, output is the log-odds.
        output: What the decoder returned, shape (b, *event).
    """
    match likelihood:
        case "gaussian":
            return gaussian(output)
        case "discretized":
            return DiscretizedNormal(gaussian(output, LOWEST_GRID_LOG_VAR))
        case "bernoulli":
            if isinstance(output, tuple):
                raise InputError("a bernoulli decoder returns log-odds, one tensor; got a tuple")
            return Bernoulli(output)
    check_likelihood(likelihood)
    raise AssertionError("unreachable")


def limit_log_var(log_var: Tensor, lowest: float = -200.0) -> Tensor:
    """Keep log-variances where float32 can compute with them.

    Above 88.7 a float32 variance is inf, and the KL of an example sums `num_dims` of them; below -200 the
    standard deviation leaves even the subnormal numbers. No fit comes near either end; a diverging
    encoder does, and beyond them its gradient is zero rather than NaN (theory E29, O30).
    """
    num_dims = log_var[0].numel() if len(log_var) else 1
    ceiling = 88.3 - math.log(num_dims)
    return log_var.clamp(lowest, ceiling)
