"""Progress of a training run: a live line in a terminal, a plain line every ten seconds elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from kakusan.console import Status, counted, minutes, tell
from kakusan.training.flops import Effort
from kakusan.training.loop import Trainer

BAR = 20  # columns


class ProgressLine:
    """Bar, time left, images/s, FLOP/s, loss and the newest held-out bits/dim, on stderr."""

    def __init__(self, batch: int, unit: str):
        self.batch, self.unit = batch, unit
        self.measured = ""  # e.g. "3.21 ± 0.05 bits/dim"
        self.effort = Effort()
        self._status = Status()
        self._window: tuple[float, int] | None = None
        self._rate = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self._status.end(keep=True)

    def update(self, trainer: Trainer) -> None:
        """Show the progress if an update is due; called after each step."""
        if self._window is not None and not self._status.due:
            return
        now, images = time.monotonic(), trainer.state.images(self.batch)
        before, self._window = self._window, (now, images)
        if before is None or now <= before[0]:  # the rate is not known yet
            return
        rate = max(0, images - before[1]) / (now - before[0])  # a run may go back a few steps
        if not self._rate:
            self._tell_time(trainer)
        self._rate = 0.8 * self._rate + 0.2 * rate if self._status.live and self._rate else rate
        done = min(1.0, trainer.progress)
        full = round(BAR * done)
        bar = f"{'█' * full}{'░' * (BAR - full)} " if self._status.live else ""
        self._status.show(f"{bar}{done:4.0%}  {self._text(trainer)}")

    def _tell_time(self, trainer: Trainer) -> None:
        """State once how long a budget of steps takes on this machine."""
        state, steps = trainer.state, trainer.budget.steps
        if steps is not None and state.seconds > 0:
            verb = "takes" if steps == 1 else "take"
            tell(f"{counted(steps, 'step')} {verb} about {minutes(state.seconds * steps / state.step)} on this machine")

    def _text(self, trainer: Trainer) -> str:
        done, seconds = trainer.progress, trainer.state.seconds
        left = seconds * (1 - done) / done if done > 0 else 0.0
        loss = "" if trainer.state.loss is None else f"  loss {trainer.state.loss:.4f}"
        measured = f"  {self.measured}" if self.measured else ""
        effort = self.effort.words(self._rate)
        effort = f" ({effort})" if effort else ""
        return f"{minutes(left)} left  {self._rate:,.0f} {self.unit}/s{effort}{loss}{measured}"
