"""Training time as a function of the step, for learning rates that follow a budget in minutes.

The clock is read occasionally. Readings are stored in the checkpoint and interpolated linearly, so the learning rate of
every step up to a checkpoint can be computed again.
"""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

LEAST_SECONDS = 0.5  # least number of seconds between two readings
LEAST_SHARE = 0.01  # least interval as a share of the run so far, which limits the number of readings


class Reading(NamedTuple):
    """Reading of the clock: at `step` the run had taken `seconds`, at `pace` seconds per step."""

    step: int
    seconds: float
    pace: float


@dataclass
class Clock:
    """Seconds that a run has taken, without pauses.

    Args:
        readings: Readings so far in the order of their steps; default: one at step 0.
        now: Monotonic clock in seconds.
    """

    readings: list[Reading] = field(default_factory=lambda: [Reading(0, 0.0, 0.0)])
    now: Callable[[], float] = time.monotonic
    stopped: bool = False  # whether new readings are suspended

    def __post_init__(self):
        self.start(0)

    def start(self, step: int) -> None:
        """Start or resume the clock before this step."""
        self._last_step = step
        self._zero = self.now() - self.seconds(step)
        self._read_at = self.now()

    def seconds(self, step: int) -> float:
        """Return the seconds that the run has taken before this step; steps start at 0."""
        latest = self.readings[-1]
        if step < latest.step:  # the step lies between two readings
            latest = self.readings[bisect.bisect_right(self.readings, step, key=lambda reading: reading.step) - 1]
        return latest.seconds + (step - latest.step) * latest.pace

    def wanted(self, step: int, paused: bool = False) -> Reading | None:
        """Return a new reading if one is due, otherwise None; `take` records it.

        Args:
            step: The next step.
            paused: Whether work other than steps has taken time since the last reading.
        """
        if self.stopped:
            return None
        now = self.now()
        elapsed, steps = now - self._read_at, step - self._last_step
        few = steps in (1, 2, 4, 8) and len(self.readings) < 5  # early readings, for a first estimate of the pace
        if not paused and not few and elapsed < max(LEAST_SECONDS, LEAST_SHARE * self.seconds(step)):
            return None
        pace = elapsed / steps if steps and not paused else self.readings[-1].pace
        return Reading(step, max(now - self._zero, self.seconds(step)), pace)

    def take(self, reading: Reading) -> None:
        """Record a reading; it applies from its step on."""
        self.readings.append(reading)
        self._last_step, self._read_at = reading.step, self.now()
