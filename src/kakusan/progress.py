"""Progress of long work: any loop may be wrapped in `progress`, and is shown only if a command asked for progress.

Loops may be nested, also in worker threads. The outermost loop gives the label; inner loops refine its share.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from kakusan.console import Status, minutes

Item = TypeVar("Item")


@dataclass(eq=False)
class Level:
    """One loop: number of items, number done, and the share of the current item that other threads have done."""

    total: int
    done: int = 0
    inner: float = 0.0


class Work:
    """The nested loops in progress, and the line that shows them."""

    shown: ClassVar[Work | None] = None

    def __init__(self) -> None:
        self.levels: list[Level] = []
        self.label, self.start, self.status = "", 0.0, Status()
        self._lock, self._thread = threading.Lock(), threading.current_thread()

    def begin(self, label: str, total: int) -> Level:
        """Add a loop inside the current ones."""
        level = Level(total)
        if threading.current_thread() is self._thread:
            if not self.levels:
                self.label, self.status, self.start = label, Status(), time.monotonic()
            self.levels.append(level)
        return level

    def advance(self, level: Level, done: int) -> None:
        """Record how many items of a loop are done, and update the line if it is due."""
        with self._lock:
            level.done, level.inner = min(done, level.total), 0.0
            if level not in self.levels and self.levels:  # in a worker thread; the most advanced thread counts
                outer = self.levels[-1]
                outer.inner = max(outer.inner, level.done / level.total)
            share = self.share()
            if share > 0 and self.status.due:
                left = (time.monotonic() - self.start) * (1 - share) / share
                self.status.show(f"{self.label}: {share:.0%}, {minutes(left)} left")

    def share(self) -> float:
        """Share of the outermost loop that is done."""
        part = 0.0
        for level in reversed(self.levels):
            part = (level.done + min(max(part, level.inner), 1.0)) / level.total
        return part

    def end(self, level: Level) -> None:
        """Remove a loop and the loops inside it."""
        if level in self.levels:
            del self.levels[self.levels.index(level) :]
            if not self.levels:
                self.status.end()


@contextmanager
def showing_progress() -> Iterator[None]:
    """Show the progress of long work on stderr. Commands and `kakusan.train` use it; other calls from Python are silent."""
    before, Work.shown = Work.shown, Work.shown or Work()
    try:
        yield
    finally:
        Work.shown = before


@contextmanager
def _loop(work: Work, label: str, total: int) -> Iterator[Level]:
    level = work.begin(label, total)
    try:
        yield level
    finally:
        work.end(level)


@contextmanager
def stages(label: str, number: int) -> Iterator[Callable[[], None]]:
    """Progress of work in different stages: call what is yielded after each of them."""
    work = Work.shown
    if work is None:
        yield lambda: None
        return
    with _loop(work, label, number) as level:
        yield lambda: work.advance(level, level.done + 1)


def progress(items: Iterable[Item], label: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items; within `showing_progress`, show the share done and the time left after two seconds.

    Args:
        items: Any iterable; an item counts as done when the next one is requested.
        label: Text before the share, e.g. "sampling".
        total: Number of items, if `items` has no length.
    """
    total = total or (len(items) if isinstance(items, Sized) else 0)
    work = Work.shown
    if work is None or not total:
        yield from items
        return
    with _loop(work, label, total) as level:
        for done, item in enumerate(items):
            work.advance(level, done)
            yield item
