"""The time of a run as a function of its step, so that a budget in minutes can be gone through again to the bit.

The learning rate of a run by minutes follows the time. Read at every step, it would be different each time; so the
time is read now and then, written down, and in between it passes at an even pace. What was written down after the
last checkpoint is followed when the run is taken up there: it then does the same steps with the same learning rates.
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
    """Seconds that a run has taken, its pauses left out.

    Args:
        readings: Those so far, by rising step; a new run has none.
        ahead: Readings of an earlier attempt at the steps to come, to be followed.
        record: Told each new reading.
        now: Seconds of a clock that never goes back.
    """

    readings: list[Reading] = field(default_factory=lambda: [Reading(0, 0.0, 0.0)])
    ahead: list[Reading] = field(default_factory=list)
    record: Callable[[Reading], None] = lambda reading: None
    now: Callable[[], float] = time.monotonic
    stopped: bool = False  # nothing new is read

    def start(self, step: int) -> None:
        """The run begins, or goes on, before this step."""
        self._last_step = step
        self._zero = self.now() - self.seconds(step)
        self._read_at = self.now()

    def seconds(self, step: int) -> float:
        """How old the run is before this step (which counts from 0)."""
        latest = self.readings[-1]
        if step < latest.step:  # asked about the past
            latest = self.readings[bisect.bisect_right(self.readings, step, key=lambda reading: reading.step) - 1]
        return latest.seconds + (step - latest.step) * latest.pace

    def wanted(self, step: int, paused: bool = False) -> Reading | None:
        """A new reading, if it is time for one; `take` makes it count.

        Args:
            step: The next one.
            paused: Something else than steps took its time since the last reading.
        """
        if self.stopped:
            return None
        now = self.now()
        elapsed, steps = now - self._read_at, step - self._last_step
        few = steps in (1, 2, 4, 8) and len(self.readings) < 5  # a first idea of the pace, at once
        if not paused and not few and elapsed < max(LEAST_SECONDS, LEAST_SHARE * self.seconds(step)):
            return None
        pace = elapsed / steps if steps and not paused else self.readings[-1].pace
        return Reading(step, max(now - self._zero, self.seconds(step)), pace)

    def take(self, reading: Reading) -> None:
        """Let a reading count from its step on."""
        self.readings.append(reading)
        self.record(reading)
        self._last_step, self._read_at = reading.step, self.now()

    def go_back(self, count: int, step: int) -> None:
        """To a step where there were so many readings; those since are followed, for the same steps will be done again."""
        self.ahead[:0] = self.readings[count:]
        del self.readings[count:]
        if not self.ahead:
            self.start(step)  # what was done since is no part of the pace

    def follow(self, step: int) -> None:
        """Take up what an earlier attempt read at this step."""
        if not self.ahead:
            return
        while self.ahead and self.ahead[0].step <= step:
            self.readings.append(self.ahead.pop(0))
        if not self.ahead:  # from here on the time is our own again
            self.start(step)
