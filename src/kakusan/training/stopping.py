"""Signals during training: the first one stops after the current step, the second one at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from kakusan.errors import Stopped
from kakusan.signals import handled_by


class StopRequests:
    """Stop requests so far.

    Attributes:
        asked: Number of the signal that requested a stop; 0 if none did.
    """

    def __init__(self):
        self.asked = 0
        self._at_once = False

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Raise `Stopped` at the first signal, for work that can be repeated because the state is saved."""
        if self.asked:
            raise Stopped(self.asked)
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def _ask(self, number: int, frame: FrameType | None) -> None:
        again, self.asked = self.asked, number
        if again or self._at_once:
            raise Stopped(number)


@contextmanager
def stop_requests() -> Iterator[StopRequests]:
    """Collect stop signals while the block runs; restore the handlers afterwards."""
    requests = StopRequests()
    with handled_by(requests._ask):
        yield requests
