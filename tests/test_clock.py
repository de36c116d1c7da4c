"""The clock of a budget in minutes is read now and then, and kept in the checkpoint."""

import pytest
import torch

from harness import engine_job
from harness.faults import catches
from kakusan.training.clock import Clock, Reading
from kakusan.training.settings import Budget
from kakusan.training.state import State

pytestmark = pytest.mark.reliability


class FakeTime:
    """Seconds that pass unevenly, a different way for each seed."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)
        self.seconds = 100.0 * seed

    def __call__(self):
        self.seconds += torch.rand((), generator=self.generator, dtype=torch.float64).item()
        return self.seconds


def by_minutes(seed):
    """A trainer with a budget of one minute, of which a step takes about one second."""
    one = engine_job.trainer(groups=1)
    one.budget = Budget(minutes=1.0)
    one.clock = Clock(one.state.readings, FakeTime(seed))
    return one


@catches("""training/clock.py: the time of an earlier step is extrapolated from the latest reading
- if step < latest.step:
+ if False:""")
def test_between_readings_time_passes_at_an_even_pace():
    clock = Clock([Reading(0, 0.0, 0.0), Reading(10, 5.0, 0.5), Reading(20, 30.0, 2.0)])
    assert [clock.seconds(step) for step in (0, 9, 10, 12, 20, 21)] == [0.0, 0.0, 5.0, 6.0, 30.0, 32.0]


@catches("""training/clock.py: the time goes back
- max(now - self._zero, self.seconds(step))
+ now - self._zero""")
def test_time_never_goes_back():
    now = iter([0.0, 0.0, 0.0, 0.0, 10.0, 10.0, 10.5, 10.5]).__next__
    clock = Clock(now=now)
    clock.start(0)
    clock.take(clock.wanted(1))  # one step in ten seconds
    assert clock.wanted(2).seconds == clock.seconds(2) == 20.0  # though only half a second has passed


@catches("""training/clock.py: the clock is read at every step
- elapsed < max(LEAST_SECONDS, LEAST_SHARE * self.seconds(step))
+ elapsed < 0""")
def test_a_long_run_is_read_seldom_enough_to_keep_all_readings():
    seconds = [0.0]
    clock = Clock(now=lambda: seconds[0])
    clock.start(0)
    for step in range(1, 20_001):  # a week in steps of 30 seconds
        seconds[0] += 30.24
        reading = clock.wanted(step)
        if reading is not None:
            clock.take(reading)
    assert len(clock.readings) < 1100
    assert clock.seconds(20_000) == pytest.approx(7 * 24 * 3600, rel=0.01)


def test_a_checkpoint_of_a_run_by_minutes_holds_its_clock():
    first = engine_job.run(by_minutes(1), stop_at=20)
    tensors, state = first.snapshot()
    resumed = by_minutes(2)
    resumed.restore(tensors, State(**state))
    for step in range(21):
        assert resumed.clock.seconds(step) == first.clock.seconds(step)
    assert resumed.progress == first.progress > 0.1
    assert engine_job.run(resumed).progress >= 1


@catches("""training/clock.py: the pace of the first steps is unknown
- and len(self.readings) < 5
+ and len(self.readings) < 1""")
@catches("""training/clock.py: short steps are read for ever
- and len(self.readings) < 5
+ and len(self.readings) < 500""")
def test_the_first_four_steps_are_read_however_short_they_are():
    seconds = [0.0]
    clock = Clock(now=lambda: seconds[0])
    for step in range(1, 20):
        seconds[0] += 0.01
        reading = clock.wanted(step)
        if reading is not None:
            clock.take(reading)
    assert [reading.step for reading in clock.readings] == [0, 1, 2, 3, 4]
    assert clock.seconds(20) == pytest.approx(0.2)


def test_a_reading_is_due_after_half_a_second_or_a_hundredth_of_the_run():
    now = [0.0]
    clock = Clock([Reading(k, float(k), 1.0) for k in range(5)], now=lambda: now[0])
    clock.start(7)  # 7 s, extrapolated
    now[0] = 0.4375
    assert clock.wanted(8) is None
    now[0] = 0.5
    assert clock.wanted(17) == Reading(17, 17.0, 0.05)  # the time so far is never less than the extrapolation
    clock.take(Reading(17, 1000.0, 0.5))
    now[0] = 10.0
    assert clock.wanted(18) is None  # 9.5 s of 1000.5
    now[0] = 10.75
    assert clock.wanted(22) == Reading(22, 1002.5, 2.05)  # 10.25 s are over 1 % of 1,002.5 s
    clock.stopped = True
    now[0] = 1000.0
    assert clock.wanted(30) is None
