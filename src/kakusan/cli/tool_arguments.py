"""Arguments of the commands that apply a trained model to given examples. Does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from kakusan.cli.flags import SOLVERS, Count, OnDevice, Printed, Run
from kakusan.cli.parser import Positional
from kakusan.settings import Between, Seed

Source = Annotated[str, Positional("PATH")]


@dataclass(frozen=True)
class Score(Printed, OnDevice):
    """Score individual examples in nats and bits per dimension with standard errors, and list the strangest."""

    run: Run
    """Run directory, or a file written by kakusan export."""
    path: Source
    """Data of the model's shape: a folder of images, a .npy or .npz file, or an embedded data set."""
    top: Count = 20
    """Number of strangest examples to list."""
    error: Annotated[float, Between(0, 1e9, "(]")] | None = None
    """Wanted standard error of each example in nats. Evaluations are doubled until it is reached."""
    evaluations: Annotated[int, Between(2, 65_536)] = 128
    """Number of evaluations per example to begin with."""
    out: Path | None = None
    """New .csv file for the scores of all examples."""
    map: Path | None = None
    """New .png file of the strangest images, each above a map of its squared errors."""
    seed: Seed = 0
    """Random seed."""


@dataclass(frozen=True, kw_only=True)
class Inversion(OnDevice):
    """Flags of a command that encodes examples."""

    steps: Count | None = None
    """Number of steps of the inversion, for a diffusion model. Default: 50."""
    solver: Annotated[str, SOLVERS] | None = None
    """Solver without fresh noise, for a diffusion model. Default: ddim."""
    seed: Seed = 0
    """Random seed. Matters only if noise or bits are drawn."""


@dataclass(frozen=True)
class Encode(Inversion):
    """Write the latents of given examples to an array."""

    run: Run
    """Run directory, or a file written by kakusan export."""
    path: Source
    """Data of the model's shape: a folder of images, a .npy or .npz file, or an embedded data set."""
    out: Path
    """New .npy file."""


@dataclass(frozen=True)
class Reconstruct(Inversion):
    """Encode given examples, decode them again, and write the results next to the originals."""

    run: Run
    """Run directory, or a file written by kakusan export."""
    path: Source
    """Data of the model's shape: a folder of images, a .npy or .npz file, or an embedded data set."""
    out: Path
    """Directory for reconstructions.png and reconstructions.npy."""
    t: Count | None = None
    """Level up to which noise is drawn, 1 to T. Default: no noise, a deterministic reconstruction."""
    limit: Count | None = None
    """Number of examples from the start. Default: all."""


@dataclass(frozen=True)
class Interpolate(Inversion):
    """Interpolate between two examples in latent space, and write the results as a row of images."""

    run: Run
    """Run directory, or a file written by kakusan export."""
    a: Annotated[str, Positional("A")]
    """Image file, or the number of a held-out example of the run's data, starting at 0."""
    b: Annotated[str, Positional("B")]
    """Other end of the interpolation, in the same form."""
    out: Path
    """New .png or .npy file."""
    n: Annotated[int, Between(2)] = 8
    """Number of examples from A to B."""
