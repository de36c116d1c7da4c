"""Signals that ask to leave, as an exception: so that a command cleans up and its exit status says why it ended."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
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


def handled_by(handler: Callable[[int, FrameType | None], None]) -> AbstractContextManager[None]:
    """Let a handler have Ctrl-C, SIGTERM and SIGUSR1; as before afterwards."""

    def handle(number: int, frame: FrameType | None) -> None:
        Received.number = number
        handler(number, frame)

    Received.number = 0
    return _with(handle)


def left_to_the_system() -> AbstractContextManager[None]:
    """Let a signal end the process at once; as before afterwards."""
    return _with(signal.SIG_DFL)


@contextmanager
def _with(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> Iterator[None]:
    previous = {}
    try:
        for number in SIGNALS:
            previous[number] = signal.signal(number, handler)
    except ValueError:  # signals belong to the main thread; elsewhere nobody can ask
        pass
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
