"""Training loop. Each step draws a batch, differentiates, agrees across ranks, steps and averages weights."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kakusan import distributed
from kakusan.noise import Randomness, stream
from kakusan.training.batches import Batches
from kakusan.training.clock import Clock
from kakusan.training.ema import Ema
from kakusan.training.engine import Engine
from kakusan.training.optimizers import Optimizers
from kakusan.training.outcome import DeferredCheck, StepOutcome, agree, agree_on_reading
from kakusan.training.precision import Computing
from kakusan.training.settings import Budget, Optim
from kakusan.training.state import State
from kakusan.training.stopping import stop_requests
from kakusan.training.threads import MicroBatchThreads, allows_threads

Loss = Callable[[Tensor, Randomness], Tensor]  # (indices, randomness) -> losses to be minimized, (b,)


@contextmanager
def buffers_kept(module: nn.Module) -> Iterator[None]:
    """Restore the buffers of a module after the block."""
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    yield
    for buffer, before in buffers:
        buffer.copy_(before)


class Objective(nn.Module):
    """Mean loss as a module that contains the trained one, as DistributedDataParallel requires."""

    def __init__(self, module: nn.Module, loss: Loss):
        super().__init__()
        self.module, self.loss = module, loss

    def forward(self, indices: Tensor, randomness: Randomness) -> Tensor:
        """Return the mean loss of the examples."""
        return self.loss(indices, randomness).mean()


@dataclass
class Trainer:
    """Trainer of `module` on `loss` until the budget is used up.

    `run` does everything; your own loop calls `step` until `progress` is 1. Every rank of a job creates a
    trainer and makes the same calls. Each rank computes its share of the micro-batches.

    Args:
        module: Module to train, in place.
        loss: Per-example loss, which reads `module`.
        num_examples: Number of training examples.
        settings: Optimizer settings.
        budget: Minutes or steps.
        seed: Random seed; batches and noise are functions of it, the step and the micro-batch.
        device: Device of the module, the indices and the noise.
        rollbacks: Steps to which the run was rolled back; the noise changes from each of them on.
        earlier: Former budgets of a resumed run, each with the step until which it counted.
        save_seconds: Seconds between saves, apart from those at marks.
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
        self.ema = Ema(self.module, self.settings.ema)  # copies the module before networks are compiled
        self.computing = Computing(self.module, self.settings, self.device)
        self.objective = self.engine.wrap(
            Objective(self.module, lambda indices, randomness: self.losses(indices, randomness))
        )
        self.optimizers = Optimizers(self.module, self.settings)
        self.early: dict[str, Tensor] | None = None  # averaged weights from early in the run, see settings.early
        self.stopped_by = 0  # number of the signal that ended the last `run`
        self._parameters = [p for p in self.module.parameters() if p.requires_grad]
        self._shuffled: Batches | None = None
        alone = distributed.world_size() == 1
        limit = sys.float_info.max if self.settings.skip_above is None else self.settings.skip_above
        self._largest_norm = limit
        self._deferred = None if self.device.type == "cpu" or not alone else DeferredCheck(limit)
        parallel = alone and allows_threads(self.settings, self.device)
        self.num_parallel = min(len(self.engine.micro_batches), torch.get_num_threads()) if parallel else 1
        self._threads: MicroBatchThreads | None = None
        if self.num_parallel > 1:
            self._threads = MicroBatchThreads(self.num_parallel, self._parameters, list(self.module.buffers()))

    def run(
        self,
        marks: list[float],
        on_mark: Callable[[Trainer], None],
        on_step: Callable[[Trainer], None],
        on_save: Callable[[Trainer], None] = lambda trainer: None,
    ) -> bool:
        """Train. Return True if the budget is used up, and False if a signal requested a stop and everything is saved.

        Args:
            marks: Increasing shares of the budget at which `on_save` and then `on_mark` are called; 1.0 is the end.
            on_mark: Called at each mark; its time counts toward the budget. A signal interrupts it at once.
            on_step: Called after each step; it must be fast.
            on_save: Called at marks, every `save_seconds`, and when a signal requests a stop.
        """
        self.module.train()
        self._start()
        saved_at, outcome = time.monotonic(), StepOutcome()
        with stop_requests() as requests:
            while True:
                passed = sum(mark <= self.progress for mark in marks)
                reached = passed > self.state.marks  # in a short run, one step may pass several marks
                if reached or outcome.save or outcome.stop:
                    on_save(self)
                    saved_at = time.monotonic()
                if outcome.stop:
                    self.stopped_by = outcome.stop
                    return False
                if reached:
                    alone = distributed.world_size() == 1  # otherwise the other ranks would wait forever
                    with requests.at_once() if alone else nullcontext():
                        on_mark(self)
                    self.state.marks = passed
                    self._resume_clock()
                self._keep_early()
                if self.progress >= 1:
                    self.settle()
                    return True
                outcome = self.step(requests.asked, time.monotonic() - saved_at > self.save_seconds)
                on_step(self)

    def go_to(self, step: int) -> None:
        """Train up to a step with the clock stopped."""
        self.clock.start(self.state.step)
        self.clock.stopped = True
        self.module.train()
        self.state.seconds = self.clock.seconds(self.state.step)
        while self.state.step < step:
            self.step()

    def step(self, stop: int = 0, save: bool = False) -> StepOutcome:
        """Take one step and return its outcome, which is the same on all ranks.

        Args:
            stop: Number of the signal that requests this rank to stop (0: none).
            save: Whether this rank wants to save.
        """
        step = self.state.step
        loss = self.gradients(step)
        norm = self.norm()
        reading = self.clock.wanted(step + 1) if distributed.is_rank0() else None
        outcome, skip = StepOutcome(stop=stop, save=save, reading=reading), None
        if self._deferred is None:
            outcome = agree(outcome._replace(bad=self.is_bad(loss, norm), loss=loss.item()))
            self.state.note(step, outcome.bad, outcome.loss)
        else:
            skip = self._deferred.add(step, loss, norm)
            if self._deferred.is_full:
                self.settle()
        if outcome.bad:
            self.optimizers.clear()
        else:
            if self.settings.clip is not None:
                nn.utils.clip_grads_with_norm_(self._parameters, self.settings.clip, norm)
            self.optimizers.step(self.scale(), skip)
        self.state.step = step + 1
        if not outcome.bad:
            self.ema.update(self.state.step)
        if outcome.reading is not None:
            self.clock.take(outcome.reading)
        self.state.seconds = self.clock.seconds(self.state.step)
        return outcome

    @property
    def progress(self) -> float:
        """Share of the budget that is used up; it may exceed 1."""
        step = self.state.step
        budget = next((budget for until, budget in self.earlier if step < until), self.budget)
        return budget.progress(step, self.state.seconds)

    def settle(self) -> None:
        """Process the checks that are still on the device; NonFiniteLossError if too many steps were skipped."""
        if self._deferred is not None:
            for step, bad, loss in self._deferred.read():
                self.state.note(step, bad, loss)

    def snapshot(self) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        """Return what `restore` needs: tensors by file and name, and the state as plain values."""
        self.settle()
        tensors = {
            "model": dict(self.module.state_dict()),
            "ema": self.ema.tensors,
            "optimizer": self.optimizers.tensors(),
        }
        if self.early is not None:
            tensors["early"] = self.early
        return tensors, asdict(self.state)

    def restore(self, tensors: dict[str, dict[str, Tensor]], state: State) -> None:
        """Continue from a snapshot."""
        for held, content in ((dict(self.module.state_dict()), tensors["model"]), (self.ema.tensors, tensors["ema"])):
            for name, tensor in held.items():
                tensor.copy_(content[name])
        self.optimizers.load({name: tensor.to(self.device) for name, tensor in tensors["optimizer"].items()})
        early = tensors.get("early")
        self.early = None if early is None else {name: value.to(self.device) for name, value in early.items()}
        self.state = state
        self.clock.readings = state.readings

    def salt(self, step: int) -> int:
        """Return the number of the noise stream at a step: how many rollbacks apply to it."""
        return sum(back <= step for back in self.rollbacks)

    def draws(self, step: int, micro_batch: int) -> tuple[Tensor, torch.Generator]:
        """Return example indices and a noise generator of one micro-batch of a step."""
        salt = self.salt(step)
        noise = stream(self.seed, "step", salt, step, micro_batch, device=self.device)
        return self._batches(salt).indices(step, micro_batch), noise

    def losses(self, indices: Tensor, randomness: Randomness) -> Tensor:
        """Return per-example losses in the precision of training."""
        with self.computing.forward():
            return self.loss(indices, randomness)

    def gradients(self, step: int) -> Tensor:
        """Compute a step's gradients in the parameters; return the mean loss of this rank's micro-batches."""
        shares = [partial(self._share, *self.draws(step, number)) for number in self.engine.micro_batches]
        if self._threads is not None:
            losses = self._threads.gradients(shares)
        else:
            losses = []
            for last, share in enumerate(shares, start=1 - len(shares)):
                with self.computing.step(), self.engine.backward(self.objective, last=last == 0):
                    loss = share()
                    loss.backward()
                losses.append(loss.detach())
        return sum(losses[1:], losses[0])

    def _share(self, indices: Tensor, randomness: torch.Generator) -> Tensor:
        """Return the contribution of one micro-batch to this rank's mean loss."""
        loss = self.objective(indices, randomness)
        return loss / len(self.engine.micro_batches) if len(self.engine.micro_batches) > 1 else loss

    def norm(self) -> Tensor:
        """Return the Euclidean norm of all gradients; NaN or infinite if one of them is not finite."""
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        if self.device.type != "cpu" or not gradients:
            return nn.utils.get_total_norm(gradients)
        # gives the same number, and saves 2 % of a step of a small network
        return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(one) for one in gradients]))

    def is_bad(self, loss: Tensor, norm: Tensor) -> bool:
        """Return whether a step with this loss and gradient norm must be skipped."""
        return not (math.isfinite(loss.item()) and norm.item() <= self._largest_norm)  # false for NaN

    def scale(self) -> float:
        """Return the learning rate at the current step divided by its peak."""
        warm = min(1.0, (self.state.step + 1) / self.settings.warmup) if self.settings.warmup else 1.0
        return warm * (1 - self.progress if self.settings.decay == "linear" else 1.0)

    def _start(self) -> None:
        """Start the clock. Compilation counts toward the budget once, at the beginning of a run."""
        new = self.state.step == 0
        if not new:
            self._warm_up()
        self.clock.start(self.state.step)
        self.state.seconds = self.clock.seconds(self.state.step)
        if new and self._warm_up():
            self._resume_clock()

    def _warm_up(self) -> bool:
        """Compile the networks by computing gradients that are discarded. Return whether there was anything to compile."""
        with buffers_kept(self.module):
            for _ in range(self.computing.warm_up_calls):
                self.gradients(self.state.step)
                self.optimizers.clear()
        return self.computing.warm_up_calls > 0

    def _resume_clock(self) -> None:
        """Read the clock after work other than a step."""
        reading = self.clock.wanted(self.state.step, paused=True) if distributed.is_rank0() else None
        self.clock.take(agree_on_reading(reading))
        self.state.seconds = self.clock.seconds(self.state.step)

    def _keep_early(self) -> None:
        if self.early is None and self.settings.early is not None and self.progress >= self.settings.early:
            self.early = {name: value.clone() for name, value in self.ema.module.state_dict().items()}

    def _batches(self, salt: int) -> Batches:
        if self._shuffled is None or self._shuffled.salt != salt:
            self._shuffled = Batches(
                self.num_examples, self.settings.batch, self.seed, self.device, self.settings.num_groups, salt
            )
        return self._shuffled
