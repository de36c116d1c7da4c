"""Signals that ask to leave, as an exception: so that a command cleans up and its exit status says why it ended."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from kakusan.errors import Stopped

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]
EXIT_STATUS = 128  # plus the number of the signal, as shells count


class Received:
    """The signal that came last; 0 if none did."""

    number = 0


def stop(number: int, frame: FrameType | None) -> None:
    """Leave where the program stands."""
    raise Stopped(number)


@contextmanager
def left_to_the_system() -> Iterator[None]:
    """Let a signal end the process at once; as before afterwards."""
    previous = {}
    try:
        for number in SIGNALS:
            previous[number] = signal.signal(number, signal.SIG_DFL)
    except ValueError:  # not the main thread, which has no handlers
        pass
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


@contextmanager
def handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Let a handler have Ctrl-C, SIGTERM and SIGUSR1; as before afterwards."""
    previous = {}

    def handle(number: int, frame: FrameType | None) -> None:
        Received.number = number
        handler(number, frame)

    Received.number = 0
    try:
        for number in SIGNALS:
            previous[number] = signal.signal(number, handle)
    except ValueError:  # signals belong to the main thread; elsewhere nobody can ask
        pass
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
