"""Parametrizations of a denoiser: for each, the regression target and the estimate of x from the output (M8)."""

from __future__ import annotations

import warnings
from typing import ClassVar, Protocol

from torch import Tensor

from kakusan.errors import InputError, ScheduleWarning
from kakusan.registry import Registry
from kakusan.schedule import Schedule, Step

UNSTABLE_ALPHA_BAR = 1e-6  # below this, x from a predicted eps has more than 1,000 times the error of the network


class Parametrization(Protocol):
    """Conversion between a network's output and the data estimate.

    Attributes:
        needs_signal: Whether x cannot be recovered where alpha_bar = 0.
    """

    needs_signal: ClassVar[bool]

    def x_hat(self, output: Tensor, z: Tensor, step: Step) -> Tensor:
        """Return the estimate of x from the network's output at z_t."""
        ...

    def target(self, x: Tensor, z: Tensor, eps: Tensor, step: Step) -> Tensor:
        """Return the regression target: the ideal output, given x and eps."""
        ...


class Eps:
    """Prediction of the noise eps = (z_t - signal x) / noise. Ho, Jain and Abbeel 2020, https://arxiv.org/abs/2006.11239."""

    needs_signal = True

    def x_hat(self, output: Tensor, z: Tensor, step: Step) -> Tensor:
        """Return the estimate (z_t - noise output) / signal of x."""
        return (z - step.noise * output) / step.signal

    def target(self, x: Tensor, z: Tensor, eps: Tensor, step: Step) -> Tensor:
        """Return the regression target, the noise eps."""
        return eps


class X:
    """Prediction of the data x."""

    needs_signal = False

    def x_hat(self, output: Tensor, z: Tensor, step: Step) -> Tensor:
        """Return the output, which is the estimate of x."""
        return output

    def target(self, x: Tensor, z: Tensor, eps: Tensor, step: Step) -> Tensor:
        """Return the regression target, the data x."""
        return x


class V:
    """Prediction of v = signal eps - noise x. Salimans and Ho 2022, https://arxiv.org/abs/2202.00512, appendix D."""

    needs_signal = False

    def x_hat(self, output: Tensor, z: Tensor, step: Step) -> Tensor:
        """Return the estimate signal z_t - noise output of x."""
        return step.signal * z - step.noise * output

    def target(self, x: Tensor, z: Tensor, eps: Tensor, step: Step) -> Tensor:
        """Return the regression target v = signal eps - noise x."""
        return step.signal * eps - step.noise * x


class Score:
    """Prediction of the score of q(z_t | x), -eps / noise. Song et al. 2021, https://arxiv.org/abs/2011.13456."""

    needs_signal = True

    def x_hat(self, output: Tensor, z: Tensor, step: Step) -> Tensor:
        """Return the estimate (z_t + noise^2 output) / signal of x."""
        return (z + step.noise_var * output) / step.signal

    def target(self, x: Tensor, z: Tensor, eps: Tensor, step: Step) -> Tensor:
        """Return the regression target, the score -eps / noise."""
        return -eps / step.noise


class Mean:
    """Prediction of the mean coef_x x + coef_z z_t of p(z_{t-1} | z_t), as in the study notes."""

    needs_signal = False

    def x_hat(self, output: Tensor, z: Tensor, step: Step) -> Tensor:
        """Return the estimate (output - coef_z z_t) / coef_x of x."""
        return (output - step.mean_coef_z * z) / step.mean_coef_x

    def target(self, x: Tensor, z: Tensor, eps: Tensor, step: Step) -> Tensor:
        """Return the regression target, the mean of q(z_{t-1} | z_t, x)."""
        return step.mean_coef_x * x + step.mean_coef_z * z


PREDICTIONS = Registry(
    "prediction",
    {
        "eps": "kakusan.models.parametrization:Eps",
        "x": "kakusan.models.parametrization:X",
        "v": "kakusan.models.parametrization:V",
        "mean": "kakusan.models.parametrization:Mean",
        "score": "kakusan.models.parametrization:Score",
    },
)


def check_last_step(
    prediction: str, parametrization: Parametrization, schedule: Schedule, clip: tuple[float, float] | None
) -> None:
    """Check that a prediction can give x at t = T.

    Raises:
        InputError: If alpha_bar_T = 0 and the prediction needs a signal.

    Warns:
        ScheduleWarning: If alpha_bar_T is so small that the estimate of x is inaccurate without clipping.
    """
    if not parametrization.needs_signal:
        return
    left = schedule.alpha_bar[-1].item()
    if left == 0:
        raise InputError(
            f"prediction={prediction!r} cannot give x where alpha_bar_T = 0 (zero terminal SNR); use prediction='v'"
        )
    if left < UNSTABLE_ALPHA_BAR and clip is None:
        warnings.warn(
            f"prediction={prediction!r} multiplies the network's error by {left**-0.5:.0f} at t = T, where "
            f"alpha_bar = {left:.1g}: samples with few steps may be far too large; use prediction='v', or clip=(-1, 1)",
            ScheduleWarning,
            stacklevel=3,
        )
