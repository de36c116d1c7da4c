"""One session of training: from a fresh or resumed job to a finished run, or to a signal that stops it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from kakusan import distributed
from kakusan.console import tell
from kakusan.data.cautions import cautions
from kakusan.errors import InputError, PeerFailed, SaveError
from kakusan.run.build import count_parameters, family_of
from kakusan.run.fingerprint import check_origin, origin
from kakusan.run.finish import MARKS, averaged_model, draw, finish, measure, measured_words
from kakusan.run.job import Job, trainer_of
from kakusan.run.memory import available_bytes, memory_errors, memory_words, step_bytes
from kakusan.training import checkpoint
from kakusan.training.engine import losses_named
from kakusan.training.flops import effort_of
from kakusan.training.loop import Trainer
from kakusan.training.progress import ProgressLine

CANNOT_FIT = 1.5  # needed memory as a multiple of the free memory, above which a step is refused
NOTABLE_RISE = 1.02  # factor between two measurements of bits/dim above which the rise is explained
MAY_RISE = "bits/dim rose: early in training it may, while samples improve; the report says why"


class Session:
    """Training of one job by this process.

    Args:
        job: What to train.
        newest: Intact checkpoint from which to resume; None if the run has none yet.
        fresh: True for a new run.
    """

    def __init__(self, job: Job, newest: Path | None, fresh: bool):
        self.job, self.newest, self.fresh = job, newest, fresh
        self.intact = {newest} if newest else set()  # checkpoints known to be intact, which need not be read again
        self.failed: InputError | None = None  # error of the last save
        self._rate_before: float | None = None  # bits/dim of the last measurement; infinite once a rise was explained
        with memory_errors(job.recipe):
            self.trainer = trainer_of(job)
        self.progress = ProgressLine(self.trainer.settings.batch, job.dataset.form.unit)

    def train(self) -> int:
        """Train until the budget is used up, then measure. Return 0, or the number of the signal that stopped training."""
        with losses_named(), memory_errors(self.job.recipe):
            self._prepare()
            with self.progress:
                if self._cheap_step:
                    self.progress.effort = effort_of(self.trainer)
                finished = self.trainer.run(MARKS, self._on_mark, self.progress.update, self._on_save)
            if self.failed is not None:
                raise self.failed
            if finished:
                finish(self.job.run, self.job.recipe, self.job.dataset, self.trainer)
            return self.trainer.stopped_by

    def _prepare(self) -> None:
        """Describe the data, restore the checkpoint, and compare its fingerprint with the current one."""
        job, trainer, run = self.job, self.trainer, self.job.run
        tell(job.dataset.describe())
        start = f"{count_parameters(job.module):,} parameters on {_place(job)}"
        if self.fresh:
            for line in [*cautions(job.dataset), *family_of(job.recipe.model).start_lines(job.module)]:
                tell(line)
            distributed.on_rank0(lambda: checkpoint.check_room(run.checkpoints, job.module))
            self._check_memory()
        else:
            if self.newest:
                checkpoint.load(trainer, self.newest)
            passed = sum(mark <= trainer.progress for mark in MARKS)
            trainer.state.marks = min(trainer.state.marks, passed)  # with a larger budget fewer marks have passed
            start = f"resuming from step {trainer.state.step:,}"
        known = trainer.state.made_by.get("data")  # version 0.3 included file names in the digest
        now = origin(
            job.recipe,
            job.seed,
            known if known is not None and job.dataset.matches(known) else job.dataset.digest(),
            job.device,
            distributed.world_size(),
            trainer.num_parallel,
            job.first_data,
        )
        for line in check_origin(run.path, trainer.state.made_by, now) if trainer.state.made_by else []:
            tell(f"warning: resume is not bit-exact: {line}")
        trainer.state.made_by = now
        distributed.on_rank0(lambda: run.cut_history(trainer.state.step))
        tell(f"{job.recipe.name}: {start}, {job.budget}; writing {run.path}")

    @property
    def _cheap_step(self) -> bool:
        return family_of(self.job.recipe.model).is_cheap(self.job.recipe.model)

    def _check_memory(self) -> None:
        """Print a caution if a training step needs most of the free memory; InputError if it cannot fit."""
        if not self._cheap_step or self.trainer.settings.compile != "none":
            return  # finding out would take T network evaluations, or the time of compilation
        needed, free = step_bytes(self.trainer), available_bytes(self.job.device)
        if free is not None and needed > 0.9 * free:
            words = f"a step needs about {memory_words(needed, free, self.job.recipe)}"
            if needed > CANNOT_FIT * free:
                raise InputError(words)
            tell(f"caution: {words}")

    def _on_save(self, trainer: Trainer) -> None:
        try:
            self.intact.add(checkpoint.save(trainer, self.job.run.checkpoints, self.intact))
            self.failed = None
        except (SaveError, PeerFailed) as error:
            tell(f"{error}; training continues, the next save tries again")
            self.failed = error

    def _on_mark(self, trainer: Trainer) -> None:
        run, dataset = self.job.run, self.job.dataset
        measured = distributed.is_rank0() and any(line["step"] == trainer.state.step for line in run.history())
        if distributed.broadcast([float(measured)])[0]:
            return  # the run was stopped right after this mark
        try:
            model = averaged_model(trainer, self.job.recipe, dataset)
            line = measure(model, trainer, dataset)
            self.progress.measured = measured_words(line, dataset)
            self._explain_a_rise(line)
            if self.progress.effort.flops:
                rate = self.progress.effort.flops * line["examples_per_second"] / 1e9
                line["gflops_per_second"] = float(f"{rate:.4g}")
            if distributed.is_rank0():
                run.append_history(line)
            draw(model, trainer, dataset, run)
        except PeerFailed:
            raise
        except InputError as error:  # a full disk, or samples that are not finite yet
            tell(f"{error}; training continues")

    def _explain_a_rise(self, line: dict[str, Any]) -> None:
        """Print an explanation of the first rise of bits/dim that its standard error does not explain."""
        rate, before, error = line.get("bits_per_dim"), self._rate_before, line.get("standard_error") or 0.0
        if rate is not None and before is not None and rate - 2 * error > before * NOTABLE_RISE:
            tell(MAY_RISE)
            before = math.inf
        self._rate_before = before if before == math.inf else rate


def _place(job: Job) -> str:
    ranks = distributed.world_size()
    return str(job.device) if ranks == 1 else f"{ranks} x {job.device.type}"
