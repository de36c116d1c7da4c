"""Interface of a data likelihood p(x | z_1): decoder head, pixel range, validation and log-probability in one object."""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from kakusan.checks import check_event
from kakusan.distributions import Distribution, Normal
from kakusan.errors import InputError

Output = Tensor | tuple[Tensor, Tensor]  # what a decoder returns: one tensor, or (mean, log_var)


class Likelihood(abc.ABC):
    """Distribution of the data given the output of a decoder.

    For your own likelihood, write a subclass and pass an instance as `likelihood=` to a model. A built-in one is a file in
    this folder and a line in `kakusan.likelihoods.LIKELIHOODS`.

    Attributes:
        name: Name in recipes and messages.
        low, high: Model values for the pixels 0 and 255.
        binary: Whether a pixel u becomes a random bit, 1 with probability u / 255.
        has_log_var: Whether a decoder made by a recipe also returns log-variances.
        squashed: Whether a decoder made by a recipe ends in a sigmoid.
        is_density: Whether log_prob is a density, which the width of a gray level turns into a probability.
    """

    name: ClassVar[str]
    low: ClassVar[float] = -1.0
    high: ClassVar[float] = 1.0
    binary: ClassVar[bool] = False
    has_log_var: ClassVar[bool] = False
    squashed: ClassVar[bool] = False
    is_density: ClassVar[bool] = False

    def validate(self, x: Tensor, event_shape: Sequence[int] | None = None) -> None:
        """Check that x is a batch of examples of this shape to which the likelihood gives a probability.

        Raises:
            InputError: If type, shape or values are wrong.
        """
        check_event(x, event_shape)
        self.check_values(x)

    @abc.abstractmethod
    def check_values(self, x: Tensor) -> None:
        """Raise an InputError unless every value of x can be data."""

    @abc.abstractmethod
    def distribution(self, output: Output) -> Distribution:
        """Return p(x | z_1) for the output of a decoder, whose tensors have shape (b, *event)."""

    def of_normal(self, normal: Normal) -> Distribution:
        """Return p(x | z_1) for the Gaussian of a diffusion model's last reverse step.

        Raises:
            InputError: If this likelihood does not support diffusion models.
        """
        raise InputError(f"a diffusion model needs a gaussian or discretized likelihood, got {self.name}")


def gaussian(output: Output, lowest_log_var: float = -200.0) -> Normal:
    """Return the Gaussian for a network's output: (mean, log_var), or a mean alone with unit variance (S4, S13)."""
    if isinstance(output, tuple):
        mean, log_var = output
        return Normal.from_log_var(mean, limit_log_var(log_var, lowest_log_var))
    return Normal(output, output.new_ones(()), output.new_zeros(()))


def limit_log_var(log_var: Tensor, lowest: float = -200.0) -> Tensor:
    """Clamp log-variances to the range in which float32 can compute with them (E29, O30).

    Above 88.7 a float32 variance is inf, and the KL of an example sums `num_dims` variances. Below -200 the standard
    deviation underflows to 0. A good fit stays far from both limits. A diverging encoder reaches them and gets a zero
    gradient instead of NaN.
    """
    num_dims = log_var[0].numel() if len(log_var) else 1
    return log_var.clamp(lowest, 88.3 - math.log(num_dims))
