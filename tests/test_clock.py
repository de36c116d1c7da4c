"""A budget in minutes is gone through again to the bit, by a time that is read now and then and written down."""

import pytest
import torch

from harness import engine_job
from harness.faults import catches
from kakusan.train.clock import Clock, Reading
from kakusan.train.settings import Budget
from kakusan.train.state import State

pytestmark = pytest.mark.reliability


class FakeTime:
    """Seconds that pass unevenly, a different way for each seed."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)
        self.seconds = 100.0 * seed

    def __call__(self):
        self.seconds += torch.rand((), generator=self.generator, dtype=torch.float64).item()
        return self.seconds


def by_minutes(seed, ahead=(), written=None):
    """A trainer with a budget of one minute, of which a step takes about one second."""
    one = engine_job.trainer(groups=1)
    one.budget = Budget(minutes=1.0)
    one.clock = Clock(one.state.readings, list(ahead), (written if written is not None else []).append, FakeTime(seed))
    return one


def test_between_readings_time_passes_at_an_even_pace():
    clock = Clock([Reading(0, 0.0, 0.0), Reading(10, 5.0, 0.5), Reading(20, 30.0, 2.0)])
    assert [clock.seconds(step) for step in (0, 9, 10, 12, 20, 21)] == [0.0, 0.0, 5.0, 6.0, 30.0, 32.0]


@catches("train/clock.py", "max(now - self._zero, self.seconds(step))", "now - self._zero", "the time goes back")
def test_time_never_goes_back():
    now = iter([0.0, 0.0, 10.0, 10.0, 10.5, 10.5]).__next__
    clock = Clock(now=now)
    clock.start(0)
    clock.take(clock.wanted(1))  # one step in ten seconds
    assert clock.wanted(2).seconds == clock.seconds(2) == 20.0  # though only half a second has passed


@catches(
    "train/clock.py",
    "elapsed < max(LEAST_SECONDS, LEAST_SHARE * self.seconds(step))",
    "elapsed < 0",
    "the clock is read at every step",
)
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


@catches(
    "train/clock.py",
    "self.readings.append(self.ahead.pop(0))",
    "self.ahead.pop(0)",
    "a run that is gone on with reads the time anew",
)
def test_a_run_by_minutes_can_be_gone_through_again_by_what_its_clock_read():
    written = []
    first = engine_job.run(by_minutes(1, written=written))
    again = engine_job.run(by_minutes(2, ahead=written))
    other = engine_job.run(by_minutes(2))
    assert first.state.step == again.state.step > 30
    assert engine_job.everything(first) == engine_job.everything(again)
    assert engine_job.everything(first) != engine_job.everything(other)


@pytest.mark.parametrize("stop", [1, 2, 17, 30])
def test_a_run_by_minutes_that_is_killed_goes_on_to_the_bits_of_its_own_clock(stop):
    written = []
    killed = by_minutes(1, written=written)
    saved = {}

    def on_save(one):
        tensors, state = one.snapshot()
        saved.update(tensors={f: {n: t.clone() for n, t in named.items()} for f, named in tensors.items()}, state=state)

    def on_step(one):
        if one.state.step == stop // 2:
            on_save(one)
        if one.state.step == stop:
            raise StopIteration

    with pytest.raises(StopIteration):
        killed.run([0.05, 0.5, 1.0], lambda one: None, on_step, on_save)
    resumed = by_minutes(3)
    if saved:
        resumed.take_up(saved["tensors"], State(**saved["state"]))
    done = len(resumed.state.readings) - 1
    resumed.clock.ahead, resumed.clock.record = list(written[done:]), written.append
    resumed.run([0.05, 0.5, 1.0], lambda one: None, lambda one: None)
    unbroken = by_minutes(4, ahead=written)
    unbroken.run([0.05, 0.5, 1.0], lambda one: None, lambda one: None)
    assert engine_job.everything(resumed) == engine_job.everything(unbroken)
    assert resumed.early is not None
