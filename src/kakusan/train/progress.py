"""What a person sees while it trains: one live line in a terminal, a plain line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from kakusan import distributed
from kakusan.train.flops import Effort
from kakusan.train.loop import Trainer

PLAIN_SECONDS = 10.0
LIVE_SECONDS = 0.2


class ProgressLine:
    """Bar, time left, images/s, what that is in FLOP/s, and the newest held-out bits/dim, on stderr."""

    def __init__(self, batch: int, unit: str, console: Console | None = None):
        self.batch, self.unit = batch, unit
        self.console = console or Console(stderr=True)
        self.measured = ""  # e.g. "3.21 ± 0.05 bits/dim"
        self.effort = Effort()
        self._shown_at = 0.0
        self._window: tuple[float, int] | None = None
        self._rate = 0.0
        self._live: Progress | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal and distributed.is_rank0():
            self._live = Progress(
                BarColumn(bar_width=28), TextColumn("{task.description}"), console=self.console, transient=False
            )
            self._live.start()
            self._live.add_task("", total=1.0)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        if self._live is not None:
            self._live.stop()

    def update(self, trainer: Trainer) -> None:
        """Called after each step; shows something only now and then."""
        now = time.monotonic()
        if not distributed.is_rank0() or now - self._shown_at < (
            LIVE_SECONDS if self._live is not None else PLAIN_SECONDS
        ):
            return
        images = trainer.state.images(self.batch)
        if self._window is not None and now - self._window[0] > 0:
            rate = max(0, images - self._window[1]) / (now - self._window[0])  # a run may go back a few steps
            self._rate = rate if self._live is None or not self._rate else 0.8 * self._rate + 0.2 * rate
        first = self._window is None
        self._window = (now, images)
        self._shown_at = now
        if first:  # nothing is known yet of how long it takes
            return
        text = self._text(trainer)
        if self._live is not None:
            self._live.update(self._live.task_ids[0], completed=min(1.0, trainer.progress), description=text)
        else:
            print(f"{min(1.0, trainer.progress):4.0%}  {text}", file=sys.stderr, flush=True)

    def _text(self, trainer: Trainer) -> str:
        done, seconds = trainer.progress, trainer.state.seconds
        left = seconds * (1 - done) / done if done > 0 else 0.0
        loss = "" if trainer.state.loss is None else f"  loss {trainer.state.loss:.4f}"
        measured = f"  {self.measured}" if self.measured else ""
        effort = self.effort.words(self._rate)
        effort = f" ({effort})" if effort else ""
        minutes, secs = divmod(round(max(left, 0.0)), 60)
        return f"{minutes}:{secs:02d} left  {self._rate:,.0f} {self.unit}/s{effort}{loss}{measured}"
