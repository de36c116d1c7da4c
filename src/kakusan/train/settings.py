"""What the trainer needs to be told. No torch here: `kakusan train --help` shows these before torch is loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from kakusan.errors import InputError


@dataclass(frozen=True)
class Optim:
    """How parameters move."""

    method: Literal["adam", "muon"] = "adam"
    """adam: AdamW for everything. muon: orthogonalised steps for hidden weight matrices, AdamW for the rest."""
    lr: float = 1e-3
    """Of AdamW, at its peak."""
    matrix_lr: float = 0.02
    """Of Muon, at its peak."""
    weight_decay: float = 0.01
    warmup: int = 100
    """Steps over which the learning rate rises from 0."""
    decay: Literal["linear", "none"] = "linear"
    """linear: falls to 0 over the budget, whether that is minutes or steps."""
    clip: float | None = 1.0
    """Largest gradient norm; None for no limit."""
    batch: int = 64
    ema: float = 0.1
    """Share of the run that the averaged weights look back on, below 1; 0 for none."""
    early: float | None = None
    """Share of the budget after which the averaged weights are kept once, as the weaker self that guides sampling."""
    betas: tuple[float, float] = (0.9, 0.98)
    """Memories of AdamW's mean and square; a short second one suits runs of a few thousand steps."""

    def __post_init__(self):
        for name, value, good in (
            ("batch", self.batch, self.batch >= 1),
            ("lr", self.lr, self.lr >= 0),
            ("matrix_lr", self.matrix_lr, self.matrix_lr >= 0),
            ("weight_decay", self.weight_decay, self.weight_decay >= 0),
            ("warmup", self.warmup, self.warmup >= 0),
            ("clip", self.clip, self.clip is None or self.clip > 0),
            ("ema", self.ema, 0 <= self.ema < 1),
            ("early", self.early, self.early is None or 0 < self.early < 1),
            ("betas", self.betas, len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)),
        ):
            if not good:
                raise InputError(f"optim.{name} cannot be {value}; see kakusan train RECIPE --help for what it means")


@dataclass(frozen=True)
class Budget:
    """When to stop: after `steps`, or after `minutes`; exactly one is set."""

    minutes: float | None = None
    steps: int | None = None

    def __post_init__(self):
        if (self.minutes is None) == (self.steps is None):
            raise InputError(f"a budget is either minutes or steps, got minutes={self.minutes}, steps={self.steps}")
        amount = self.minutes or self.steps or 0
        if not (amount > 0 and math.isfinite(amount)):
            raise InputError(f"a budget must be positive, got {self}; e.g. --minutes 3")

    def progress(self, step: int, seconds: float) -> float:
        """Share of the budget that is used up, 0 to 1 and beyond."""
        if self.steps is not None:
            return step / self.steps
        assert self.minutes is not None, "checked at the start"
        return seconds / (60 * self.minutes)

    def __str__(self) -> str:
        return f"{self.steps:,} steps" if self.steps is not None else f"{self.minutes:g} minutes"
