"""Training time as a function of the step, for learning rates that follow a budget in minutes.

The time is read now and then, kept in the checkpoint, and interpolated linearly between readings. So the learning rate
of every step up to a checkpoint can be computed again.
"""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

LEAST_SECONDS = 0.5  # between two readings; and
LEAST_SHARE = 0.01  # of the time so far, so that a week's run has a thousand of them


class Reading(NamedTuple):
    """At `step` the run was `seconds` old and took `pace` seconds a step."""

    step: int
    seconds: float
    pace: float


@dataclass
class Clock:
    """Seconds of training, without pauses.

    Args:
        readings: Those so far, by rising step; a new run has none.
        now: Seconds of a clock that never goes back.
    """

    readings: list[Reading] = field(default_factory=lambda: [Reading(0, 0.0, 0.0)])
    now: Callable[[], float] = time.monotonic
    stopped: bool = False  # nothing new is read

    def __post_init__(self):
        self.start(0)

    def start(self, step: int) -> None:
        """Start or resume the run before this step."""
        self._last_step = step
        self._zero = self.now() - self.seconds(step)
        self._read_at = self.now()

    def seconds(self, step: int) -> float:
        """Age of the run in seconds before this step (which counts from 0)."""
        latest = self.readings[-1]
        if step < latest.step:  # the step is in the past
            latest = self.readings[bisect.bisect_right(self.readings, step, key=lambda reading: reading.step) - 1]
        return latest.seconds + (step - latest.step) * latest.pace

    def wanted(self, step: int, paused: bool = False) -> Reading | None:
        """A new reading if it is time for one; `take` adds it.

        Args:
            step: The next one.
            paused: Something else than steps took its time since the last reading.
        """
        if self.stopped:
            return None
        now = self.now()
        elapsed, steps = now - self._read_at, step - self._last_step
        few = steps in (1, 2, 4, 8) and len(self.readings) < 5  # a first estimate of the pace
        if not paused and not few and elapsed < max(LEAST_SECONDS, LEAST_SHARE * self.seconds(step)):
            return None
        pace = elapsed / steps if steps and not paused else self.readings[-1].pace
        return Reading(step, max(now - self._zero, self.seconds(step)), pace)

    def take(self, reading: Reading) -> None:
        """Add a reading, which counts from its step on."""
        self.readings.append(reading)
        self._last_step, self._read_at = reading.step, self.now()
