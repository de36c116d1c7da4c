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
    """A noise level of a chain: z = signal x + noise eps, in plain floats from float64 tables.

    Attributes:
        index: t, 0 is the data.
        signal: sqrt(alpha_bar_t).
        noise: sqrt(1 - alpha_bar_t).
        half_log_snr: log(signal / noise): inf at the data, -inf where alpha_bar_t = 0.
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
        """arctan(noise / signal), from 0 at the data to pi / 2."""
        return math.atan2(self.noise, self.signal)


def levels(schedule: Schedule) -> list[Level]:
    """All levels t = 0..T of a schedule."""
    tables = (schedule.signal.tolist(), schedule.noise.tolist(), (schedule.log_snr / 2).tolist())
    return [Level(t, *values) for t, values in enumerate(zip(*tables))]


class Denoise:
    """The data estimate of a chain at the current level, which the step of a solver calls.

    `denoise(z)` is the estimate of x from z at the level t of the step, `denoise(z, level)` at another level. Each
    call is one network evaluation.

    Attributes:
        levels: All levels of the chain, by t.
        num_steps: Number of steps of the whole solve.
    """

    def __init__(self, chain: Diffusion, cond: Tensor | None, times: list[int]):
        self.levels = levels(chain.schedule)
        self.num_steps = len(times)
        self.level = self.levels[times[-1]]
        self.estimates: dict[int, Tensor] = {}  # the first estimate at each level of this step and the next
        self._chain, self._cond, self._times = chain, cond, times

    def __call__(self, z: Tensor, level: Level | None = None) -> Tensor:
        """The estimate of x, shape of z."""
        level = level or self.level
        x_hat = self._chain.data_estimate(z, level.index, self._cond)
        self.estimates.setdefault(level.index, x_hat)
        return x_hat

    @functools.cached_property
    def _coarse(self) -> Diffusion:
        """The chain that visits only the levels of this solve."""
        return self._chain.respaced(self._times)

    def reverse(self, z: Tensor) -> Normal:
        """p(z_s | z_t = z) of the chain that visits only the levels of this solve; one network evaluation."""
        place = self._times.index(self.level.index) + 1
        prediction, v = self._coarse.predict(z, place, self._cond)
        x_hat = self._coarse.x_from(prediction, z, place)
        self.estimates.setdefault(self.level.index, x_hat)
        return self._coarse.reverse_of(x_hat, z, place, v)

    def begin(self, level: Level) -> None:
        """Start the step from this level."""
        self.estimates = {t: x_hat for t, x_hat in self.estimates.items() if t == level.index}
        self.level = level


class Solver(Protocol):
    """Numerical method that takes a chain from noise to data, one pair of levels at a time.

    A solver is a frozen dataclass. Its fields are its options, and appear in the command line by themselves. With K
    steps, uniform in log SNR, and a perfect network, the error of the sample distribution is of order K^-order. The
    suite of laws verifies `order`.
    """

    @property
    def order(self) -> int:
        """Order of convergence; 0 if the method does not converge for a perfect network."""
        ...

    def init(self) -> Any:
        """The state before the first step."""
        ...

    def step(self, denoise: Denoise, z: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        """One step from z at level t to level s < t; returns z_s and the next state.

        Args:
            denoise: Gives the estimate of x; `denoise(z)` is the one at t.
            z: The latent at t, (b, *event).
            t: The level of z.
            s: The level to go to; at the data the result is the estimate of x.
            state: What `init` or the step before returned.
            noise: z -> fresh standard normal noise of its shape.
        """
        ...
