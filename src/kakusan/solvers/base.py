"""Interface of a solver: one step from level t to level s of a diffusion chain."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from kakusan.distributions import Normal
    from kakusan.models.diffusion import Diffusion
    from kakusan.schedule import Schedule

Noise = Callable[["Tensor"], "Tensor"]  # z -> fresh N(0, I) of its shape


@dataclass(frozen=True)
class Level:
    """Noise level of a chain with z = signal x + noise eps, as Python floats from float64 tables.

    Attributes:
        index: Step t; 0 is the data.
        signal: sqrt(alpha_bar_t).
        noise: sqrt(1 - alpha_bar_t).
        half_log_snr: log(signal / noise); inf at the data, -inf where alpha_bar_t = 0.
    """

    index: int
    signal: float
    noise: float
    half_log_snr: float

    @property
    def is_data(self) -> bool:
        """True at t = 0."""
        return self.index == 0

    @property
    def angle(self) -> float:
        """Angle arctan(noise / signal), from 0 at the data to pi / 2."""
        return math.atan2(self.noise, self.signal)


def levels(schedule: Schedule) -> list[Level]:
    """All levels t = 0..T of a schedule."""
    tables = (schedule.signal.tolist(), schedule.noise.tolist(), (schedule.log_snr / 2).tolist())
    return [Level(t, *values) for t, values in enumerate(zip(*tables))]


class Denoise:
    """Function that a solver calls to estimate the data.

    `denoise(z)` returns the estimate of x from z at the level t of the step, and `denoise(z, level)` at another level.
    Each call is one network evaluation.

    Attributes:
        levels: All levels of the chain; the index is t.
        num_steps: Number of steps from noise to data.
    """

    def __init__(self, chain: Diffusion, cond: Tensor | None, times: list[int]):
        self.levels = levels(chain.schedule)
        self.num_steps = len(times)
        self.level = self.levels[times[-1]]
        self.estimates: dict[int, Tensor] = {}  # the estimate at each level of this step and the next
        self._chain, self._cond, self._times = chain, cond, times

    def __call__(self, z: Tensor, level: Level | None = None) -> Tensor:
        """Return the estimate of x in the shape of z."""
        level = level or self.level
        x_hat = self._chain.data_estimate(z, level.index, self._cond)
        if level is self.level or level.index not in self.estimates:
            self.estimates[level.index] = x_hat
        return x_hat

    @functools.cached_property
    def _coarse(self) -> Diffusion:
        """Coarser chain that has only the selected steps."""
        return self._chain.respaced(self._times)

    def reverse(self, z: Tensor) -> Normal:
        """Return p(z_s | z_t = z) of the coarser chain that has only the selected steps; one network evaluation."""
        place = self._times.index(self.level.index) + 1
        prediction, v = self._coarse.predict(z, place, self._cond)
        x_hat = self._coarse.x_from(prediction, z, place)
        self.estimates.setdefault(self.level.index, x_hat)
        return self._coarse.reverse_of(x_hat, z, place, v)

    def begin(self, level: Level) -> None:
        """Set the level at which the next step starts."""
        self.estimates = {t: x_hat for t, x_hat in self.estimates.items() if t == level.index}
        self.level = level


class Solver(Protocol):
    """Numerical method that takes latents from noise to data, one pair of levels at a time.

    A solver is a frozen dataclass. Its fields are its options, and the command line has a flag for each. With a perfect
    network and K steps that are uniform in log-SNR, the error of the sample distribution is of order K^-order. The suite
    of laws verifies `order`.
    """

    @property
    def order(self) -> int:
        """Order of convergence; 0 if the method does not converge for a perfect network."""
        ...

    def init(self) -> Any:
        """Return the state before the first step."""
        ...

    def step(self, denoise: Denoise, z: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        """Step from z at level t to level s < t; return z_s and the next state.

        Args:
            denoise: Function that returns the estimate of x; `denoise(z)` is the estimate at t.
            z: The latent at t, (b, *event).
            t: Level of z.
            s: Level of the result; at the data the result is the estimate of x.
            state: State returned by `init` or by the previous step.
            noise: Function that returns fresh standard normal noise in the shape of its argument.
        """
        ...
