"""What the trainer needs to be told. No torch here: `kakusan train --help` shows these before torch is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from kakusan.errors import InputError
from kakusan.settings import Between, check

MOST_MINUTES = 10**7  # nineteen years
MOST_STEPS = 10**12
Share = Annotated[float, Between(0, 1, "[)")]


@dataclass(frozen=True)
class Optim:
    """How parameters move."""

    method: Literal["adam", "muon"] = "adam"
    """adam: AdamW for everything. muon: orthogonalised steps for hidden weight matrices, AdamW for the rest."""
    lr: Annotated[float, Between(0, 100)] = 1e-3
    """Of AdamW, at its peak."""
    matrix_lr: Annotated[float, Between(0, 100)] = 0.02
    """Of Muon, at its peak."""
    weight_decay: Annotated[float, Between(0, 100)] = 0.01
    warmup: Annotated[int, Between(0, 10**9)] = 100
    """Steps over which the learning rate rises from 0."""
    decay: Literal["linear", "none"] = "linear"
    """linear: falls to 0 over the budget, whether that is minutes or steps."""
    clip: Annotated[float, Between(0, 10**9, "(]")] | None = 1.0
    """Largest gradient norm; None for no limit."""
    skip_above: Annotated[float, Between(0, 10**9, "(]")] | None = None
    """Skip a step whose gradient norm is larger than this; steps whose loss or gradient is not finite are always skipped."""
    batch: Annotated[int, Between(1, 10**6)] = 64
    groups: Annotated[int, Between(1, 10**6)] | None = None
    """Equal slices of the batch whose gradients are added up. Several processes share them; threads of one process on a CPU take them side by side, else it takes them in turn. Unless given as many as processes, and 2 for a diffusion model on several cores."""
    ema: Share = 0.1
    """Share of the run that the averaged weights look back on, below 1; 0 for none."""
    early: Annotated[float, Between(0, 1, "()")] | None = None
    """Share of the budget after which the averaged weights are kept once, as the weaker self that guides sampling."""
    betas: tuple[Share, Share] = (0.9, 0.98)
    """Memories of AdamW's mean and square; a short second one suits runs of a few thousand steps."""
    augment: Literal["none", "shift", "shift-and-mirror"] = "none"
    """shift: train on pictures moved by up to 2 pixels; mirrored too, it is not for digits. Bounds are of the data as they are."""
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    """Of the networks' products; all else is float32. tf32 is a GPU's; bfloat16 pays where the device has units for it."""
    compile: Literal["none", "default", "reduce-overhead", "max-autotune"] = "none"
    """torch.compile's mode, for the networks; its time counts in the budget. The last two, CUDA graphs, are a GPU's."""

    def __post_init__(self):
        check(self, "optim")
        if self.batch % self.num_groups:
            raise InputError(f"optim.groups must divide the batch of {self.batch}, got {self.groups}")

    @property
    def num_groups(self) -> int:
        """One unless given."""
        return self.groups or 1


@dataclass(frozen=True)
class Budget:
    """When to stop: after `steps`, or after `minutes`; exactly one is set."""

    minutes: Annotated[float, Between(0, MOST_MINUTES)] | None = None
    steps: Annotated[int, Between(0, MOST_STEPS)] | None = None

    def __post_init__(self):
        check(self, "budget")
        if (self.minutes is None) == (self.steps is None):
            raise InputError(f"a budget is either minutes or steps, got minutes={self.minutes}, steps={self.steps}")
        amount = self.minutes or self.steps or 0
        if not amount > 0:
            raise InputError(f"a budget must be positive, got {self}; e.g. --minutes 3")

    def progress(self, step: int, seconds: float) -> float:
        """Share of the budget that is used up, 0 to 1 and beyond."""
        if self.steps is not None:
            return step / self.steps
        assert self.minutes is not None, "checked at the start"
        return seconds / (60 * self.minutes)

    def __str__(self) -> str:
        return f"{self.steps:,} steps" if self.steps is not None else f"{self.minutes:g} minutes"
