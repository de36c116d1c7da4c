"""Long work shows its share and the time left, only where a command asked for it."""

import io
import re
import sys
import threading

import pytest
import torch

import kakusan as kk
from harness.faults import catches
from harness.support import call
from kakusan import console
from kakusan.cli import commands
from kakusan.likelihood import diffusion
from kakusan.likelihood.chains import of_terms
from kakusan.likelihood.scores import score_examples
from kakusan.measure import measure_features
from kakusan.models.clusters import Clusters
from kakusan.progress import Work, progress, showing_progress, stages


class Clock:
    """Time that passes a second whenever somebody looks."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def stderr(monkeypatch, capsys):
    monkeypatch.setattr(console.time, "monotonic", Clock())
    return lambda: capsys.readouterr().err


@catches("""progress.py: the time left is the whole time
- * (1 - share) / share
+ / share""")
@catches("""console.py: a dumb terminal gets escapes
- os.environ.get("TERM", "dumb") != "dumb"
+ True""")
@pytest.mark.parametrize(("terminal", "term"), [(True, "dumb"), (False, "xterm"), (True, "xterm")])
def test_progress_is_shown_after_two_seconds_with_the_time_left(monkeypatch, terminal, term):
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(console.time, "monotonic", Clock())
    with showing_progress():
        assert list(progress(range(100), "sampling\x1b")) == list(range(100))
    shown = stream.getvalue()
    live = terminal and term != "dumb"
    assert ("\r" in shown) == ("\033" in shown) == live
    lines = shown.replace("\033[K", "").strip("\r").split("\r") if live else shown.splitlines()
    assert lines[0] == "sampling\\x1b: 1%, 3:18 left"
    assert len(lines) > (90 if live else 5)


def test_progress_of_quick_work_is_not_shown(capsys):
    with showing_progress():
        assert list(progress(iter("abc"), "quick", total=3)) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""


def test_nothing_is_shown_where_no_command_asked_for_it(stderr):
    assert list(progress(range(100), "sampling")) == list(range(100))
    assert stderr() == ""


@catches("""progress.py: a nested loop starts a line of its own
- part = (level.done + min(max(part, level.inner), 1.0)) / level.total
+ part = level.done / level.total""")
def test_nested_loops_refine_the_share_of_the_outermost(stderr):
    shares = []
    with showing_progress():
        for _ in progress(range(2), "outer"):
            for _ in progress(range(2), "inner"):
                for _ in progress(range(2), "innermost"):
                    shares.append(Work.shown.share())
    assert shares == [k / 8 for k in range(8)]
    shown = stderr()
    assert "outer: " in shown
    assert "inner" not in shown


@catches("""progress.py: work in threads shows nothing
- outer.inner = max(outer.inner, level.done / level.total)
+ pass""")
def test_loops_in_worker_threads_refine_it_too(stderr):
    shares = []

    def work():
        for _ in progress(range(4), "in a thread"):
            shares.append(Work.shown.share())

    with showing_progress():
        for _ in progress(range(2), "outer"):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
    assert shares == [0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875]


@catches("""progress.py: a loop that failed stays
-     finally:
-         work.end(level)
+     except ZeroDivisionError:
+         work.end(level)""")
def test_a_loop_that_fails_leaves_nothing_behind(stderr):
    with showing_progress():
        with pytest.raises(ZeroDivisionError):
            _ = [1 / (1 - item) for item in progress(range(3), "fails")]
        assert Work.shown.levels == []
    assert Work.shown is None


def chain():
    schedule = kk.Schedule.cosine(40)
    return kk.Diffusion(lambda z, t: 0 * z, schedule, 3, prediction="x").double()


def clusters():
    Clusters(2, (3,)).find(torch.randn(300, 3, dtype=torch.float64))


X = torch.randn(30, 3, dtype=torch.float64)
LONG = {
    "sampling": lambda: kk.sample(chain(), 3),
    "ancestral sampling": lambda: kk.ancestral_sample(chain(), 3),
    "the bound of a diffusion model": lambda: diffusion.of_diffusion(chain(), lambda rows: X[rows], len(X)),
    "the bound of another model": lambda: of_terms(
        lambda x, randomness: {"a": x[:, 0]}, lambda rows: X[rows], len(X), 1, 1, "", size=2
    ),
    "scores": lambda: score_examples(chain(), lambda rows: X[rows], len(X), 3),
    "clusters": clusters,
    "measures": lambda: measure_features("mine", *torch.randn(3, 100, 4)),
}


@pytest.mark.parametrize("name", LONG)
def test_work_that_may_be_long_shows_its_progress(name, monkeypatch, stderr):
    monkeypatch.setattr(console, "QUIET_SECONDS", 0)
    monkeypatch.setattr(diffusion, "CHUNK", 10)
    with showing_progress():
        LONG[name]()
    assert re.search(r": \d+%, \d+:\d\d left", stderr())


@catches("""cli/__init__.py: commands show no progress
- with warnings.catch_warnings(), handled_by(stop), showing_progress():
+ with warnings.catch_warnings(), handled_by(stop):""")
def test_a_command_shows_the_progress_of_long_work(monkeypatch, capsys, stderr):
    def work(command):
        return [list(progress(range(40), "looking")), 0][1]

    monkeypatch.setattr(commands, "info", work)
    assert call(capsys, "info", "x")[2].startswith("looking: ")


@catches("""progress.py: a stage that is done is not counted
- yield lambda: work.advance(level, level.done + 1)
+ yield lambda: work.advance(level, level.done)""")
def test_different_stages_show_the_share_that_is_done_and_refine_each_other(stderr):
    with showing_progress():
        with stages("exporting", 4) as done:
            done()
            shares = [Work.shown.share()]
            for _ in progress(range(2), "inside"):
                shares.append(Work.shown.share())
            done()
            shares.append(Work.shown.share())
        assert Work.shown.levels == []
    assert shares == [1 / 4, 1 / 4, 3 / 8, 1 / 2]
    assert "exporting: 25%" in stderr()
    with stages("exporting", 4) as done:
        done()
    assert stderr() == ""
