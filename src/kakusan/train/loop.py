"""The loop: draw, differentiate, agree, step, average, tell."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kakusan import distributed
from kakusan.noise import Randomness, stream
from kakusan.train.batches import Batches
from kakusan.train.clock import Clock, Reading
from kakusan.train.ema import Ema
from kakusan.train.engine import Engine
from kakusan.train.lanes import Lanes, allows_lanes
from kakusan.train.optimizers import Optimizers
from kakusan.train.precision import Computing
from kakusan.train.settings import Budget, Optim
from kakusan.train.state import State
from kakusan.train.stopping import StopRequests, stop_requests

Loss = Callable[[Tensor, Randomness], Tensor]  # (indices, randomness) -> (b,), to be minimised
# On a GPU, whose verdict on a step is not waited for. It then idles for one launch in so many steps, under a
# thousandth of a step of a millisecond or more, and a run that diverges goes on for as many steps that change nothing.
UNREAD_STEPS = 32
LOSS_MEMORY = 0.02  # weight of the newest step in the running mean of the loss


class Told(NamedTuple):
    """What all processes know of a step; wishes are followed before the next one."""

    bad: bool = False
    loss: float = 0.0
    stop: int = 0  # number of a signal
    save: bool = False
    reading: Reading | None = None


@contextmanager
def buffers_kept(module: nn.Module) -> Iterator[None]:
    """Afterwards its buffers are as they were, whatever is computed inside."""
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    yield
    for buffer, before in buffers:
        buffer.copy_(before)


class Objective(nn.Module):
    """The loss as a module that holds the trained one, which is what torch's engines wrap."""

    def __init__(self, module: nn.Module, loss: Loss):
        super().__init__()
        self.module, self.loss = module, loss

    def forward(self, indices: Tensor, randomness: Randomness) -> Tensor:
        """Mean over the examples."""
        return self.loss(indices, randomness).mean()


@dataclass
class Trainer:
    """Trains `module` on `loss` until the budget is used up.

    Every process of a job makes one and calls it alike; each does its share of a batch's groups.

    Args:
        module: Its parameters move.
        loss: What falls, for each example; reads `module`.
        num_examples: How many there are to draw from.
        settings: Of the optimiser.
        budget: Minutes or steps.
        seed: Batches and noise are pure functions of it, the step and the group.
        device: Where the indices and the noise are drawn.
        earlier: Budgets that counted before this one, each up to a step.
        rollbacks: Steps at which the run was taken back for other noise; from each on the noise is another.
        save_seconds: Between saves that no mark asks for.
    """

    module: nn.Module
    loss: Loss
    num_examples: int
    settings: Optim
    budget: Budget
    seed: int
    device: torch.device
    rollbacks: list[int] = field(default_factory=list)
    earlier: list[tuple[int, Budget]] = field(default_factory=list)
    save_seconds: float = 60.0

    def __post_init__(self):
        self.state = State()
        self.clock = Clock(self.state.readings)
        self.engine = Engine(self.settings.num_groups)
        self.ema = Ema(self.module, self.settings.ema)  # copied before networks are compiled
        self.computing = Computing(self.module, self.settings, self.device)
        self.objective = self.engine.wrap(
            Objective(self.module, lambda indices, randomness: self.losses(indices, randomness))
        )
        self.optimizers = Optimizers(self.module, self.settings)
        self.early: dict[str, Tensor] | None = None  # averaged weights of the run's beginning, see settings.early
        self.stopped_by = 0  # number of the signal that ended the last `run`
        self._parameters = [p for p in self.module.parameters() if p.requires_grad]
        self._unread: list[tuple[int, Tensor, Tensor]] = []  # steps whose verdict and loss are still on the device
        self._shuffled: Batches | None = None
        self._alone = distributed.world_size() == 1
        self._reads_verdicts = self.device.type == "cpu" or not self._alone  # of each step, before the next one
        self._largest_norm = sys.float_info.max if self.settings.skip_above is None else self.settings.skip_above
        self._lanes: Lanes | None = None
        beside = self._alone and allows_lanes(self.settings, self.device)
        self.num_lanes = min(len(self.engine.groups), torch.get_num_threads()) if beside else 1
        if self.num_lanes > 1:
            self._lanes = Lanes(self.num_lanes, self._parameters, list(self.module.buffers()))

    def run(
        self,
        marks: list[float],
        on_mark: Callable[[Trainer], None],
        on_step: Callable[[Trainer], None],
        on_save: Callable[[Trainer], None] = lambda trainer: None,
    ) -> bool:
        """Train; True when the budget is used up, False when a signal asked to stop and all is saved.

        Args:
            marks: Rising shares of the budget at which `on_save` and then `on_mark` are called; 1.0 is the end.
            on_mark: Told at each mark; its time counts. A signal leaves it at once.
            on_step: Told after each step; must be cheap.
            on_save: Told when it is time to save: at marks, every `save_seconds`, and when a signal asks to stop.
        """
        self.module.train()
        self._start()
        saved_at, told = time.monotonic(), Told()
        with stop_requests() as requests:
            while True:
                self._advance(told)
                passed = sum(mark <= self.progress for mark in marks)
                marked = passed > self.state.marks  # a short run may pass several at once
                if marked or told.save or told.stop:
                    on_save(self)
                    saved_at = time.monotonic()
                if told.stop:
                    self.stopped_by = told.stop
                    return False
                if marked:
                    with (
                        requests.at_once() if distributed.world_size() == 1 else nullcontext()
                    ):  # others would wait for us
                        on_mark(self)
                    self.state.marks = passed
                    self._advance(Told(reading=self._reading(paused=True)))
                if self._early_is_due():
                    self.early = {name: value.clone() for name, value in self.ema.module.state_dict().items()}
                if self.progress >= 1:
                    self.settle()
                    return True
                told = self._step(requests, time.monotonic() - saved_at > self.save_seconds)
                on_step(self)

    def go_to(self, step: int) -> None:
        """Train up to a step with the clock stopped, and call nobody back."""
        self.clock.start(self.state.step)
        self.clock.stopped = True
        self.module.train()
        self._advance(Told())
        while self.state.step < step:
            self._advance(self._step(StopRequests(), save=False))

    @property
    def progress(self) -> float:
        """Share of the budget that is used up."""
        step = self.state.step
        budget = next((budget for until, budget in self.earlier if step < until), self.budget)
        return budget.progress(step, self.state.seconds)

    def settle(self) -> None:
        """Find out about the steps that were not looked at yet; NonFiniteLossError if too many were skipped."""
        unread, self._unread = self._unread, []
        if unread:  # one wait for all of them
            numbers = torch.stack([torch.stack([bad.double(), loss.double()]) for _, bad, loss in unread]).tolist()
            for (step, _, _), (bad, loss) in zip(unread, numbers):
                self._note(step, bad > 0, loss)

    def snapshot(self) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        """Tensors by file and name, as this process holds them, and the state as plain values."""
        self.settle()
        tensors = {
            "model": dict(self.module.state_dict()),
            "ema": self.ema.tensors,
            "optimizer": self.optimizers.tensors(),
        }
        if self.early is not None:
            tensors["early"] = self.early
        return tensors, asdict(self.state)

    def take_up(self, tensors: dict[str, dict[str, Tensor]], state: State) -> None:
        """Go on from a snapshot, whose tensors are whole."""
        for held, content in ((dict(self.module.state_dict()), tensors["model"]), (self.ema.tensors, tensors["ema"])):
            for name, tensor in held.items():
                tensor.copy_(content[name])
        self.optimizers.load({name: tensor.to(self.device) for name, tensor in tensors["optimizer"].items()})
        early = tensors.get("early")
        self.early = None if early is None else {name: value.to(self.device) for name, value in early.items()}
        self.state = state
        self.clock.readings = state.readings

    def salt(self, step: int) -> int:
        """Which noise a step has, of all that its seed could have."""
        return sum(back <= step for back in self.rollbacks)

    def draws(self, step: int, group: int) -> tuple[Tensor, torch.Generator]:
        """Indices of the examples of one group of a step, and its noise."""
        salt = self.salt(step)
        batches = self._batches(salt)
        return batches.indices(step, group), stream(self.seed, "step", salt, step, group, device=self.device)

    def losses(self, indices: Tensor, randomness: Randomness) -> Tensor:
        """What falls, for each example, in the precision that the run is trained with."""
        with self.computing.forward():
            return self.loss(indices, randomness)

    def gradients(self, step: int) -> Tensor:
        """Leave a step's gradients in the parameters; the mean loss of this process's groups."""
        shares = [partial(self._share, *self.draws(step, group)) for group in self.engine.groups]
        if self._lanes is not None:
            losses = self._lanes.gradients(shares)
        else:
            losses = []
            for last, share in enumerate(shares, start=1 - len(shares)):
                with self.computing.step(), self.engine.backward(self.objective, last=last == 0):
                    loss = share()
                    loss.backward()
                losses.append(loss.detach())
        return sum(losses[1:], losses[0])

    def _share(self, indices: Tensor, randomness: torch.Generator) -> Tensor:
        """Of one group, in the mean loss of this process."""
        loss = self.objective(indices, randomness)
        return loss / len(self.engine.groups) if len(self.engine.groups) > 1 else loss

    def norm(self) -> Tensor:
        """Euclidean norm of all gradients; NaN or infinite if one of them is not finite."""
        return nn.utils.get_total_norm(p.grad for p in self._parameters if p.grad is not None)

    def is_bad(self, loss: Tensor, norm: Tensor) -> bool:
        """Whether a step with this loss and norm, as `gradients` and `norm` give them, is to change nothing."""
        return not (math.isfinite(loss.item()) and norm.item() <= self._largest_norm)  # which no NaN is

    def scale(self) -> float:
        """Of the learning rates at the present step."""
        warm = min(1.0, (self.state.step + 1) / self.settings.warmup) if self.settings.warmup else 1.0
        return warm * (1 - self.progress if self.settings.decay == "linear" else 1.0)

    def _start(self) -> None:
        """Let the clock go, with what is to be compiled: that counts once, at the beginning of a run."""
        new = self.state.step == 0
        if not new:
            self._warm_up()
        self.clock.start(self.state.step)
        if new and self._warm_up():
            self._advance(Told(reading=self._reading(paused=True)))

    def _warm_up(self) -> bool:
        """Have the networks compiled, by gradients that change nothing; whether that was to be done."""
        with buffers_kept(self.module):
            for _ in range(self.computing.warm_up_calls):
                self.gradients(self.state.step)
                self.optimizers.clear()
        return self.computing.warm_up_calls > 0

    def _step(self, requests: StopRequests, save: bool) -> Told:
        step = self.state.step
        loss = self.gradients(step)
        norm = self.norm()
        skip: Tensor | None = None  # of a step whose verdict stays on the device
        if self._reads_verdicts:
            told = self._agree(self.is_bad(loss, norm), loss.item(), requests.asked, save)
            self._note(step, told.bad, told.loss)
        else:
            bad = ~(loss.isfinite() & norm.isfinite() & (norm <= self._largest_norm))
            told = Told(stop=requests.asked, save=save, reading=self._reading(next_step=True))
            skip = bad.float()
            self._unread.append((step, bad, loss))
            if len(self._unread) >= UNREAD_STEPS:
                self.settle()
        if told.bad:
            self.optimizers.clear()
        else:
            if self.settings.clip is not None:
                nn.utils.clip_grads_with_norm_(self._parameters, self.settings.clip, norm)
            self.optimizers.step(self.scale(), skip)
        self.state.step = step + 1
        if not told.bad:
            self.ema.update(self.state.step)
        return told

    def _early_is_due(self) -> bool:
        return self.early is None and self.settings.early is not None and self.progress >= self.settings.early

    def _agree(self, bad: bool, loss: float, stop: int, save: bool) -> Told:
        """One small sum over the processes a step: what any finds bad is bad for all, what the first wishes is done."""
        if self._alone:
            return Told(bad, loss, stop, save, self._reading(next_step=True))
        reading = self._reading(next_step=True) if distributed.is_rank0() else None
        said = [
            bad,
            loss,
            stop,
            stop > 0,
            save and distributed.is_rank0(),
            reading is not None,
            *(reading or (0, 0, 0)),
        ]
        bad_too, losses, signals, asking, save_too, has, *numbers = distributed.all_reduce_sum(
            [float(value) for value in said]
        )
        return Told(
            bad=bad_too > 0,
            loss=losses / distributed.world_size(),
            stop=stop or (round(signals / asking) if asking else 0),
            save=save_too > 0,
            reading=Reading(int(numbers[0]), numbers[1], numbers[2]) if has else None,
        )

    def _note(self, step: int, bad: bool, loss: float) -> None:
        if bad:
            self.state.skip(step)
        else:
            mean = self.state.loss
            self.state.loss = loss if mean is None else mean + LOSS_MEMORY * (loss - mean)

    def _reading(self, next_step: bool = False, paused: bool = False) -> Reading | None:
        """What the first process's clock has to say, on every process if the step is not about to agree on it."""
        reading = self.clock.wanted(self.state.step + next_step, paused)
        if not paused:
            return reading
        step, seconds, pace = distributed.broadcast([float(value) for value in reading or (0, 0.0, 0.0)])
        return Reading(int(step), seconds, pace)

    def _advance(self, told: Told) -> None:
        """Let the clock go on to the present step."""
        if told.reading is not None:
            self.clock.take(told.reading)
        self.state.seconds = self.clock.seconds(self.state.step)

    def _batches(self, salt: int) -> Batches:
        if self._shuffled is None or self._shuffled.salt != salt:
            self._shuffled = Batches(
                self.num_examples, self.settings.batch, self.seed, self.device, self.settings.num_groups, salt
            )
        return self._shuffled
