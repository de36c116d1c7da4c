"""What each verb takes, its defaults, and the words of its --help. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

# What may be left out says in its own words what is done then, instead of None.
Whole = Annotated[int | None, arg(metavar="INT", help_behavior_hint="")]
Number = Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="")]
Text = Annotated[str | None, arg(metavar="STR", help_behavior_hint="")]
Place = Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="")]
Channels = Annotated[Literal[1, 3] | None, arg(metavar="{1,3}", help_behavior_hint="")]
Run = Annotated[Positional[Path], arg(metavar="RUN")]
Seed = Annotated[int, arg(help="Of all that is random: the same seed, the same numbers.")]
DEVICE = "auto, cpu, cuda or cuda:N; auto takes a GPU if there is one."
Device = Annotated[str, arg(help=DEVICE)]
Devices = Annotated[int, arg(help="processes on this machine that train together, one for each GPU")]
Restarts = Annotated[int, arg(help="how often to begin again from the last checkpoint after one of them has died")]


@dataclass(frozen=True)
class Sample:
    """Draw new examples from a trained run: a picture and an array."""

    run: Run
    """The run directory, or a file that kakusan export wrote."""
    n: Annotated[int, arg(aliases=["-n"])] = 64
    """How many."""
    steps: Whole = None
    """Steps down the chain, 1 to T; diffusion models only, 20 unless given, 1 for a student.
    A step is a network call, two in heun; where the run's early weights guide it, one more."""
    sampler: Text = None
    """dpm++2m-sde (the default), dpm++2m, dpm++3m, unipc-2, unipc-3, heun, ddim or ancestral; diffusion models only.
    For a student renoise (its default)."""
    spacing: Text = None
    """Which steps: karras (the default), log-snr or uniform (that of a student); diffusion models only."""
    eta: Number = None
    """Share of fresh noise in ddim, 0 (the default) to 1."""
    churn: Number = None
    """How much fresh noise in heun, from 0 (the default)."""
    guidance: Number = None
    """Weight of the guidance by the run's early weights, 1 for none; diffusion models only, the recipe's unless given."""
    end_log_snr: Number = None
    """Log SNR from which samples of few steps go to the data estimate at once, the recipe's unless given; diffusion models
    only. 100 keeps the finest detail, and what noise the network leaves; mnist-ddpm has 3."""
    seed: int = 0
    """Example i is a function of the seed and i alone."""
    out: Place = None
    """Folder for samples.png and samples.npy; samples/RUN-seedS-nN unless given."""
    device: Device = "auto"


@dataclass(frozen=True)
class Evaluate:
    """Bits per dimension of a trained run, each example counted once."""

    run: Run
    """The run directory, or a file that kakusan export wrote."""
    split: Literal["test", "train"] = "test"
    """test is what was held out."""
    limit: Whole = None
    """Only the first so many examples; all unless given."""
    data: Text = None
    """Other data of the same shape; the run's own unless given."""
    importance: Whole = None
    """K of the importance-weighted bound, for VAE and hierarchical VAE; the ELBO unless given."""
    repeats: Whole = None
    """Independent estimates to average (default: 1; for fewer than 250 examples, enough for 1,000 network evaluations)."""
    estimators: bool = False
    """Also estimate the ELBO of a few examples from paths, pairs and single latents."""
    samples: Whole = None
    """Draw so many and measure them beside real pictures, e.g. 10000: Frechet distance, precision, copies and more."""
    features: Text = None
    """By whose features: digits (the default) or fashion, shipped; or a FILE of features computed elsewhere.
    FILE is .npz or .safetensors, with arrays (N, D): samples, reference (held out) and, for a floor, train."""
    seed: Seed = 0
    json: bool = False
    """One JSON object on stdout, and nothing else there."""
    device: Device = "auto"


@dataclass(frozen=True)
class Compare:
    """The difference of two runs on the same examples with the same noise: its error leaves out what they share."""

    first: Run
    """A run directory, or a file that kakusan export wrote."""
    second: Run
    """Another one, of the same kind of data."""
    split: Literal["test", "train"] = "test"
    """test is what was held out."""
    limit: Whole = None
    """Only the first so many examples; all unless given."""
    data: Text = None
    """Data of the same shape; the first run's own unless given."""
    seed: Seed = 0
    json: bool = False
    """One JSON object on stdout, and nothing else there."""
    device: Device = "auto"


@dataclass(frozen=True)
class Export:
    """Write the model of a run as one file to share: weights and configuration, no paths of this machine."""

    run: Run
    """The run directory."""
    out: Place = None
    """The file, which must not be there yet; RUN.safetensors in this folder unless given."""


@dataclass(frozen=True)
class Report:
    """Write the page of a finished run."""

    run: Run
    """The run directory."""
    out: Place = None
    """The file; RUN-report.html in this folder unless given."""


@dataclass(frozen=True)
class Doctor:
    """Check every checkpoint of a run against its checksums, and its data; exit status 1 if something is damaged."""

    run: Run
    """The run directory, or a file that kakusan export wrote; nothing in it is changed."""
    json: bool = False
    """One JSON object on stdout, and nothing else there."""


@dataclass(frozen=True)
class Replay:
    """Do one step of a run again and show its batch, its loss and its gradient; nothing is written."""

    run: Run
    """The run directory."""
    step: int
    """The step, from 1 on."""
    out: Place = None
    """A .png file for the pictures of its batch."""
    json: bool = False
    """One JSON object on stdout, and nothing else there."""
    device: Device = "auto"


@dataclass(frozen=True)
class Recipes:
    """List what can be trained."""


@dataclass(frozen=True)
class Data:
    """Say what is in a data file or folder, changing nothing."""

    path: Annotated[Positional[str], arg(metavar="PATH")]
    """mnist, a folder of pictures or of IDX files, or a .npy or .npz file."""
    size: Text = None
    """Of a folder of pictures: crop and resize to so many pixels a side, or to height x width, e.g. 48x40."""
    channels: Channels = None
    """1 for grey, 3 for colour; of a folder of pictures."""


@dataclass(frozen=True)
class Info:
    """Say what a run directory, a .safetensors file or a picture is."""

    file: Annotated[Positional[Path], arg(metavar="FILE")]
    """A run directory, a .safetensors file or a .png picture that kakusan made."""


@dataclass(frozen=True)
class Demo:
    """Train the digits DDPM, sample it, evaluate it, and say where to look."""

    out: Path = Path("runs/demo")
    """The run directory. A finished one is shown again, an interrupted one goes on."""
    minutes: Number = None
    """Of training; the recipe's own unless given."""
    seed: Seed = 0
    device: Device = "auto"


@dataclass(frozen=True)
class Resume:
    """Go on with a run where its newest checkpoint stands."""

    resume: Annotated[Path, arg(metavar="RUN")]
    """The run directory."""
    minutes: Number = None
    """A new budget, counted from the run's beginning."""
    steps: Whole = None
    """A new budget, counted from the run's beginning."""
    device: Annotated[Text, arg(help="The one it was trained on unless given; auto, cpu, cuda or cuda:N.")] = None
    data: Text = None
    """Path of the run's data, if they have moved."""
    rollback: bool = False
    """Go on with other noise and another order of the data: after too many steps whose loss was not finite."""
    devices: Devices = 1
    restarts: Restarts = 0


VERBS: dict[str, type] = {  # beside train, whose flags are its recipe's: kakusan.cli.train_arguments
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
