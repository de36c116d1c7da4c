"""What each verb takes, its defaults, and the words of its --help. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

Devices = Annotated[int, arg(help="processes on this machine that train together, one for each GPU")]
Restarts = Annotated[int, arg(help="how often to begin again from the last checkpoint after one of them has died")]
Shard = Annotated[bool, arg(help="keep a part of every weight on each of them instead of a copy")]


@dataclass(frozen=True)
class Sample:
    """Draw new examples from a trained run: a picture and an array."""

    run: Positional[Path]
    """The run directory."""
    n: Annotated[int, arg(aliases=["-n"])] = 64
    """How many."""
    steps: int | None = None
    """Steps down the chain, 1 to T; diffusion models only, 20 unless given, 1 for a student. A step is a network call, two in heun;
    where the run's early weights guide it, one more."""
    sampler: str | None = None
    """dpm++2m-sde (the default), dpm++2m, dpm++3m, unipc-2, unipc-3, heun, ddim or ancestral; diffusion models only.
    renoise (its default) for a student."""
    spacing: str | None = None
    """Which steps: karras (the default), log-snr or uniform; diffusion models only."""
    eta: float | None = None
    """Share of fresh noise in ddim, 0 (the default) to 1."""
    churn: float | None = None
    """How much fresh noise in heun, from 0 (the default)."""
    guidance: float | None = None
    """Weight of the guidance by the run's early weights, 1 for none; diffusion models only, the recipe's unless given."""
    seed: int = 0
    """Example i is a function of the seed and i alone."""
    out: Path | None = None
    """Folder for samples.png and samples.npy; samples/RUN-seedS-nN unless given."""
    device: str = "auto"


@dataclass(frozen=True)
class Evaluate:
    """Bits per dimension of a trained run, each example counted once."""

    run: Positional[Path]
    """The run directory."""
    split: Literal["test", "train"] = "test"
    """test is what was held out."""
    limit: int | None = None
    """Only the first so many examples."""
    data: str | None = None
    """Other data of the same shape."""
    importance: int | None = None
    """K of the importance-weighted bound, for VAE and hierarchical VAE."""
    samples: int | None = None
    """Draw so many and measure them beside real pictures, e.g. 10000: Frechet distance, precision, copies and more."""
    features: str | None = None
    """By whose features: digits (the default) or fashion, shipped; or a .npz or .safetensors FILE of features (N, D)
    computed elsewhere, as arrays samples, reference (held out) and, for a floor, train."""
    seed: int = 0
    json: bool = False
    """One JSON object on stdout, and nothing else there."""
    device: str = "auto"


@dataclass(frozen=True)
class Compare:
    """The difference of two runs on the same examples with the same noise: its error leaves out what they share."""

    first: Positional[Path]
    """A run directory."""
    second: Positional[Path]
    """Another one, of the same kind of data."""
    split: Literal["test", "train"] = "test"
    """test is what was held out."""
    limit: int | None = None
    """Only the first so many examples."""
    data: str | None = None
    """Data of the same shape; the first run's own unless given."""
    seed: int = 0
    json: bool = False
    """One JSON object on stdout, and nothing else there."""
    device: str = "auto"


@dataclass(frozen=True)
class Export:
    """Write the model of a run as one file to share: weights and configuration, no paths of this machine."""

    run: Positional[Path]
    """The run directory."""
    out: Path | None = None
    """The file, which must not be there yet; RUN.safetensors in this folder unless given."""


@dataclass(frozen=True)
class Report:
    """Write the page of a finished run."""

    run: Positional[Path]
    """The run directory."""
    out: Path | None = None
    """The file; RUN-report.html in this folder unless given."""


@dataclass(frozen=True)
class Doctor:
    """Check every checkpoint of a run against its checksums, and its data; exit status 1 if something is damaged."""

    run: Positional[Path]
    """The run directory, or a file that kakusan export wrote; nothing in it is changed."""
    json: bool = False
    """One JSON object on stdout, and nothing else there."""


@dataclass(frozen=True)
class Replay:
    """Do one step of a run again and show its batch, its loss and its gradient; nothing is written."""

    run: Positional[Path]
    """The run directory."""
    step: int
    """Which, from 1 on."""
    out: Path | None = None
    """A .png file for the pictures of its batch."""
    json: bool = False
    """One JSON object on stdout, and nothing else there."""
    device: str = "auto"


@dataclass(frozen=True)
class Recipes:
    """List what can be trained."""


@dataclass(frozen=True)
class Data:
    """Say what is in a data file or folder, changing nothing."""

    path: Positional[str]
    """mnist, a folder of pictures or of IDX files, or a .npy or .npz file."""
    size: str | None = None
    """Of a folder of pictures: crop and resize to so many pixels a side, or to height x width, e.g. 48x40."""
    channels: Literal[1, 3] | None = None
    """1 for grey, 3 for colour; of a folder of pictures."""


@dataclass(frozen=True)
class Info:
    """Say what a run directory, a .safetensors file or a picture is."""

    file: Positional[Path]


@dataclass(frozen=True)
class Demo:
    """Train the digits DDPM, sample it, evaluate it, and say where to look."""

    out: Path = Path("runs/demo")
    """The run directory. A finished one is shown again, an interrupted one goes on."""
    minutes: float | None = None
    """Training time; the recipe's own unless given."""
    seed: int = 0
    device: str = "auto"


@dataclass(frozen=True)
class Resume:
    """Go on with a run where its newest checkpoint stands."""

    resume: Path
    """The run directory."""
    minutes: float | None = None
    """A new budget, counted from the run's beginning."""
    steps: int | None = None
    """A new budget, counted from the run's beginning."""
    device: str | None = None
    rollback: bool = False
    """Go on with other noise and another order of the data: after too many steps whose loss was not finite."""
    devices: Devices = 1
    restarts: Restarts = 0
    shard: Shard = False


VERBS: dict[str, type] = {  # beside train, whose flags are its recipe's: kakusan.commands.typed
    "sample": Sample,
    "evaluate": Evaluate,
    "compare": Compare,
    "report": Report,
    "export": Export,
    "doctor": Doctor,
    "replay": Replay,
    "recipes": Recipes,
    "data": Data,
    "info": Info,
    "demo": Demo,
}
