"""Settings of the trainer. Does not import torch, so that `kakusan train RECIPE --help` is instant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from kakusan.console import counted
from kakusan.errors import InputError
from kakusan.settings import Between, check

MOST_MINUTES = 10**7  # nineteen years
MOST_STEPS = 10**12
Share = Annotated[float, Between(0, 1, "[)")]


@dataclass(frozen=True)
class Optim:
    """Settings of the optimizer and of a training step."""

    method: Literal["adam", "muon"] = "adam"
    """Optimizer. adam: AdamW for all parameters. muon: Muon for hidden weight matrices, AdamW for the rest."""
    lr: Annotated[float, Between(0, 100)] = 1e-3
    """Peak AdamW learning rate."""
    matrix_lr: Annotated[float, Between(0, 100)] = 0.02
    """Peak Muon learning rate."""
    weight_decay: Annotated[float, Between(0, 100)] = 0.01
    """Decoupled weight decay."""
    warmup: Annotated[int, Between(0, 10**9)] = 100
    """Number of steps over which the learning rate rises from 0."""
    decay: Literal["linear", "none"] = "linear"
    """Decay of the learning rate. linear: to 0 over the budget."""
    clip: Annotated[float, Between(0, 10**9, "(]")] | None = 1.0
    """Largest gradient norm. None: no clipping."""
    skip_above: Annotated[float, Between(0, 10**9, "(]")] | None = None
    """Gradient norm above which a step is skipped. Steps with a non-finite loss or gradient are always skipped."""
    batch: Annotated[int, Between(1, 10**6)] = 64
    """Number of examples per step."""
    groups: Annotated[int, Between(1, 10**6)] | None = None
    """Number of gradient-accumulation micro-batches. Default: the number of processes, or 2 for a diffusion model on several cores."""
    ema: Share = 0.1
    """Averaging length of the weights as a share of the run. 0: no averaging."""
    early: Annotated[float, Between(0, 1, "()")] | None = None
    """Share of the budget after which the averaged weights are saved for autoguidance."""
    betas: tuple[Share, Share] = (0.9, 0.98)
    """AdamW betas. A second value near 0.98 suits runs of a few thousand steps."""
    augment: Literal["none", "shift", "shift-and-mirror"] = "none"
    """Augmentation of training images. shift: by up to 2 pixels. shift-and-mirror: also left to right, not for digits."""
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    """Precision of matrix products in the networks. tf32 needs a GPU. bfloat16 is fast on devices that support it."""
    compile: Literal["none", "default", "reduce-overhead", "max-autotune"] = "none"
    """Mode of torch.compile. Compilation counts toward the budget. reduce-overhead and max-autotune need a GPU."""

    def __post_init__(self):
        check(self, "optim")
        if self.batch % self.num_groups:
            raise InputError(f"optim.groups must divide the batch of {self.batch}, got {self.groups}")

    @property
    def num_groups(self) -> int:
        """Number of micro-batches. Default: 1."""
        return self.groups or 1


@dataclass(frozen=True)
class Budget:
    """Training budget: either `steps` or `minutes`."""

    minutes: Annotated[float, Between(0, MOST_MINUTES)] | None = None
    steps: Annotated[int, Between(0, MOST_STEPS)] | None = None

    def __post_init__(self):
        check(self, "budget")
        if (self.minutes is None) == (self.steps is None):
            raise InputError(f"a budget is either minutes or steps, got minutes={self.minutes}, steps={self.steps}")
        amount = self.minutes or self.steps or 0
        if not amount > 0:
            raise InputError(f"a budget must be positive, got {self}; e.g. --minutes 3 (in Python minutes=3)")

    def progress(self, step: int, seconds: float) -> float:
        """Return the share of the budget that is used up; it may exceed 1."""
        if self.steps is not None:
            return step / self.steps
        assert self.minutes is not None, "checked at the start"
        return seconds / (60 * self.minutes)

    def __str__(self) -> str:
        return (
            counted(self.steps, "step")
            if self.steps is not None
            else f"{self.minutes:g} minute{'' if self.minutes == 1 else 's'}"
        )
