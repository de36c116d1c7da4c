"""The loop: draw, differentiate, step, average, tell."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kakusan.errors import InputError
from kakusan.noise import Randomness, stream
from kakusan.train.batches import Batches
from kakusan.train.ema import Ema
from kakusan.train.optimizers import Optimizers
from kakusan.train.settings import Budget, Optim

ADVICE = "the last checkpoint is whole; start again with smaller learning rates: --optim.lr, --optim.matrix-lr"
Loss = Callable[[Tensor, Randomness], Tensor]  # (indices, randomness) -> (b,), to be minimised


@dataclass
class State:
    """Where a run is: everything that resuming needs beside the tensors."""

    step: int = 0
    seconds: float = 0.0
    marks: int = 0  # how many of the marks have been told

    def images(self, batch: int) -> int:
        """Examples seen so far."""
        return self.step * batch


class NonFiniteLossError(InputError):
    """The loss became inf or NaN. It is found before it reaches the weights on a CPU, before they are saved on a GPU."""


@dataclass
class Trainer:
    """Trains `module` on `loss` until the budget is used up.

    Args:
        module: Its parameters move.
        loss: What falls, for each example; reads `module`.
        num_examples: How many there are to draw from.
        settings: Of the optimiser.
        budget: Minutes or steps.
        seed: Batches and noise are pure functions of it and the step.
        device: Where the indices and the noise are drawn.
    """

    module: nn.Module
    loss: Loss
    num_examples: int
    settings: Optim
    budget: Budget
    seed: int
    device: torch.device

    def __post_init__(self):
        self.state = State()
        self.ema = Ema(self.module, self.settings.ema)
        self.optimizers = Optimizers(self.module, self.settings)
        self.early: dict[str, Tensor] | None = None  # averaged weights of the run's beginning, see settings.early
        self.recent_loss: Tensor | None = None  # running mean, on the device

    def run(
        self,
        marks: list[float],
        on_mark: Callable[[Trainer], None],
        on_step: Callable[[Trainer], None],
    ) -> bool:
        """Train; True when the budget is used up, False when a signal asked to stop.

        Args:
            marks: Rising shares of the budget at which `on_mark` is called; 1.0 is the end.
            on_mark: Told at each mark; its time counts.
            on_step: Told after each step; must be cheap.
        """
        batches = Batches(self.num_examples, self.settings.batch, self.seed, self.device)
        parameters = [p for p in self.module.parameters() if p.requires_grad]
        started = time.monotonic() - self.state.seconds
        self.module.train()
        with _stop_requests() as stop_requested:
            while True:
                self.state.seconds = time.monotonic() - started
                progress = self.progress
                if self.early is None and self.settings.early is not None and progress >= self.settings.early:
                    self.early = {name: value.clone() for name, value in self.ema.module.state_dict().items()}
                passed = sum(mark <= progress for mark in marks)
                if passed > self.state.marks:  # a short run may pass several at once
                    self.state.marks = passed
                    on_mark(self)
                    self.state.seconds = time.monotonic() - started
                    progress = self.progress
                if progress >= 1:
                    return True
                if stop_requested():
                    return False
                self._step(batches, parameters, progress)
                on_step(self)

    def check_finite(self) -> None:
        """NonFiniteLossError if the loss has not been finite; asks the device, so not for every step."""
        if self.recent_loss is not None and not self.recent_loss.isfinite():
            raise NonFiniteLossError(f"the loss is not finite before step {self.state.step}; {ADVICE}")

    @property
    def progress(self) -> float:
        """Share of the budget that is used up."""
        return self.budget.progress(self.state.step, self.state.seconds)

    def _step(self, batches: Batches, parameters: list[nn.Parameter], progress: float) -> None:
        step = self.state.step
        randomness = stream(self.seed, "step", step, device=self.device)
        loss = self.loss(batches.indices(step), randomness).mean()
        if self.device.type == "cpu" and not loss.isfinite():
            raise NonFiniteLossError(f"the loss is {loss.item()} at step {step + 1}; {ADVICE}")
        loss.backward()
        if self.settings.clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters, self.settings.clip)
        warm = min(1.0, (step + 1) / self.settings.warmup) if self.settings.warmup else 1.0
        self.optimizers.step(warm * (1 - progress if self.settings.decay == "linear" else 1.0))
        self.state.step = step + 1
        self.ema.update(self.state.step)
        detached = loss.detach()
        self.recent_loss = detached if self.recent_loss is None else self.recent_loss.lerp(detached, 0.02)


@contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C or SIGTERM asks to stop after the current step; a second one acts at once."""
    asked = False
    previous = {}

    def ask(number, frame):
        nonlocal asked
        asked = True
        signal.signal(number, previous[number])

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, ask)
    except ValueError:  # signals belong to the main thread; elsewhere nobody can ask
        pass
    try:
        yield lambda: asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
