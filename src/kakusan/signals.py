"""Stop signals as an exception, so that a command cleans up and exits with the status of the signal."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType

from kakusan.errors import Stopped

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]
EXIT_STATUS = 128  # plus the number of the signal, as in shells


class Received:
    """Number of the last signal received; 0 if none."""

    number = 0


def stop(number: int, frame: FrameType | None) -> None:
    """Raise `Stopped` at once; a handler for `handled_by`."""
    raise Stopped(number)


def handled_by(handler: Callable[[int, FrameType | None], None]) -> AbstractContextManager[None]:
    """Handle Ctrl-C, SIGTERM and SIGUSR1 with this handler; restore the old handlers afterwards."""

    def handle(number: int, frame: FrameType | None) -> None:
        Received.number = number
        handler(number, frame)

    Received.number = 0
    return _with(handle)


def left_to_the_system() -> AbstractContextManager[None]:
    """Let a signal end the process at once; restore the old handlers afterwards."""
    return _with(signal.SIG_DFL)


@contextmanager
def _with(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> Iterator[None]:
    previous = {}
    try:
        for number in SIGNALS:
            previous[number] = signal.signal(number, handler)
    except ValueError:  # Python allows signal handlers in the main thread only
        pass
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
