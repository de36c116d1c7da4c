"""Arguments of `kakusan ladder`. Does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from kakusan.cli.flags import Count, Minutes, OnDevice, Printed, Steps
from kakusan.settings import Between, Seed


@dataclass(frozen=True)
class Ladder(Printed, OnDevice):
    """Train one model for each step from a VAE to a diffusion model, with the same budget, and compare their bounds."""

    data: str = "mnist"
    """Data: mnist, a folder of images or of IDX files, or a .npy or .npz file of images."""
    size: str | None = None
    """Size that images of a folder are cropped and resized to: pixels, or height x width, e.g. 48x40."""
    out: Path = Path("runs/ladder")
    """Folder of the runs, of ladder.json and ladder.html. An unfinished ladder there is resumed, a finished one is shown."""
    minutes: Minutes | None = None
    """Training time of each model in minutes. Default: 2, unless --steps is given."""
    steps: Steps | None = None
    """Training steps of each model, instead of minutes."""
    limit: Count = 1000
    """Number of held-out examples, from the first one on, on which all models are measured."""
    samples: Annotated[int, Between(0)] = 1000
    """Number of samples of each model to compare with real images. 0: none."""
    lang: Literal["en", "ja"] = "en"
    """Language of the page."""
    seed: Seed = 0
    """Random seed."""
