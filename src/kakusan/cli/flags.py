"""Types and groups of flags that several commands share. Does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from kakusan.cli.parser import Positional
from kakusan.settings import Between, Choice
from kakusan.training.settings import MOST_MINUTES, MOST_STEPS

Run = Annotated[Path, Positional("RUN")]
Count = Annotated[int, Between(1)]
Minutes = Annotated[float, Between(0, MOST_MINUTES, "(]")]
Steps = Annotated[int, Between(1, MOST_STEPS)]
SOLVERS = Choice("kakusan.solvers:SOLVERS")


@dataclass(frozen=True, kw_only=True)
class OnDevice:
    """Flag of a command that computes on a device."""

    device: str = "auto"
    """Device: auto, cpu, cuda, cuda:N or mps (an Apple GPU)."""


@dataclass(frozen=True, kw_only=True)
class Printed:
    """Flag of a command whose result programs can read."""

    json: bool = False
    """Print one JSON object and nothing else on stdout."""
