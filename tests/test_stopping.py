"""The first signal stops training after a step with all saved; a second one leaves at once."""

import os
import signal

import pytest

from harness import engine_job
from harness.faults import catches
from kakusan.errors import Stopped
from kakusan.training.stopping import StopRequests

pytestmark = pytest.mark.reliability


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_the_first_signal_stops_after_the_step_with_all_saved(number):
    one, saved = engine_job.trainer(), []

    def on_step(one):
        if one.state.step == 5:
            os.kill(os.getpid(), number)

    finished = one.run([1.0], lambda one: None, on_step, lambda one: saved.append(one.state.step))
    assert not finished
    assert one.stopped_by == number
    assert one.state.step == 6  # the wish is followed at the next boundary
    assert saved == [6]


@catches("""training/stopping.py: a second signal waits as the first
- if again or self._at_once:
+ if self._at_once:""")
def test_a_second_signal_leaves_at_once():
    one = engine_job.trainer()

    def on_step(one):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Stopped):
        one.run([1.0], lambda one: None, on_step)


@catches("""training/stopping.py: a signal while measuring waits for the end of it
- if again or self._at_once:
+ if again:""")
@catches("""training/loop.py: a mark is measured before it is saved
- if reached or outcome.save or outcome.stop:
+ if outcome.save or outcome.stop:""")
def test_a_signal_while_measuring_leaves_at_once_since_all_is_saved():
    one, saved = engine_job.trainer(), []

    def on_mark(one):
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("measured on")

    with pytest.raises(Stopped) as stopped:
        one.run([0.5], on_mark, lambda one: None, lambda one: saved.append(one.state.step))
    assert stopped.value.number == signal.SIGTERM
    assert saved == [6]
    assert one.state.marks == 0  # the mark is measured when the run goes on


@catches("""training/stopping.py: a signal that came before measuring is forgotten
- if self.asked:
-             raise Stopped(self.asked)
-         self
+ self""")
@catches("""training/stopping.py: after the first mark a signal leaves in the middle of a step
- self._at_once = False
-
-     def
+ self._at_once = True
+
+     def""")
def test_a_signal_leaves_at_once_inside_the_block_alone():
    requests = StopRequests()
    with requests.at_once():
        pass
    try:
        requests._ask(signal.SIGTERM, None)
    except Stopped:
        pytest.fail("the first signal waits for the end of a step")
    with pytest.raises(Stopped), requests.at_once():
        pytest.fail("a signal came before")
