"""Arguments of the commands: one dataclass per command, one field per flag with its help below. Never imports torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from kakusan.cli.flags import SOLVERS, Count, Minutes, OnDevice, Printed, Run, Steps
from kakusan.cli.ladder import Ladder
from kakusan.cli.parser import OptionsOf, Positional
from kakusan.cli.tool_arguments import Encode, Interpolate, Reconstruct, Score
from kakusan.settings import Between, Choice, Seed

Channels = Literal[1, 3, 4]
Split = Literal["test", "train"]
EXPORTS = Choice("kakusan.exchange:EXPORTS")
SPACINGS = Literal["karras", "log-snr", "uniform"]


@dataclass(frozen=True, kw_only=True)
class Measured(Printed, OnDevice):
    """Flags of a command that measures examples."""

    split: Split = "test"
    """Part of the data. test: the held-out examples."""
    data: str | None = None
    """Other data of the same shape. Default: the data of the run, or of the first run."""
    seed: Seed = 0
    """Random seed."""


@dataclass(frozen=True)
class Sample(OnDevice):
    """Draw new examples from a trained model into an image and an array."""

    run: Run
    """Run directory, or a file written by kakusan export."""
    n: Count = 64
    """Number of examples."""
    sampler: Annotated[str, SOLVERS] | None = None
    """Solver of a diffusion model. Default: dpm++2m-sde, or renoise for a student."""
    options: Annotated[dict[str, Any], OptionsOf(SOLVERS)] = field(default_factory=dict)
    steps: Count | None = None
    """Number of solver steps, 1 to T. Default: 20, or 1 for a student."""
    spacing: SPACINGS | None = None
    """Spacing of the steps over noise levels. Default: karras, or uniform for a student."""
    label: str | None = None
    """Class of a model of labels, e.g. cat, or each for all classes in turn. Default: each."""
    guidance: float | None = None
    """Scale of classifier-free guidance for a model of labels. 0: unconditional. 1: conditional. Above 1: closer to the class.
    For other diffusion models it is the autoguidance weight. Default: 1 with labels, otherwise the recipe's."""
    autoguidance: float | None = None
    """Autoguidance weight. 1 disables it. Default: the recipe's."""
    end_log_snr: float | None = None
    """Log-SNR at which few-step sampling stops and returns the estimate of x. 100: never. Default: the recipe's."""
    seed: Seed = 0
    """Random seed. Example i depends on the seed and i alone."""
    out: Path | None = None
    """Directory for samples.png and samples.npy. Default: a new one in samples/."""


@dataclass(frozen=True)
class Evaluate(Measured):
    """Measure bits per dimension of a trained model on each held-out example."""

    run: Run
    """Run directory, or a file written by kakusan export."""
    limit: Count | None = None
    """Number of examples from the start of the split. Default: all."""
    importance: Count | None = None
    """Number of samples K of the importance-weighted bound, for a VAE or hierarchical VAE. Default: the ELBO."""
    repeats: Count | None = None
    """Number of independent estimates to average. Default: 1; for fewer than 250 examples, 1,000 network evaluations."""
    error: Annotated[float, Between(0, 1e6, "(]")] | None = None
    """Wanted standard error in bits/dim. Estimates are repeated until it is reached, or until only more examples help."""
    classified: Annotated[int, Between(0)] = 200
    """Number of examples that a model of labels classifies by Bayes' rule. 0: none."""
    estimators: bool = False
    """Also estimate the ELBO of a few examples from paths, pairs and single latents."""
    samples: Count | None = None
    """Number of samples to draw and compare with real images, e.g. 10000."""
    features: str | None = None
    """Features for comparing samples: digits, fashion, multiscale, or a .npz or .safetensors file. Default: multiscale, for
    gray images of 28 x 28 digits. A file has arrays (N, D) named samples and reference (held out), and optionally train."""


@dataclass(frozen=True)
class Classify(Printed, OnDevice):
    """Classify examples with a model of labels by Bayes' rule, p(label) p(x | label)."""

    run: Run
    """Run directory, or a file written by kakusan export."""
    data: Annotated[str | None, Positional("DATA")] = None
    """Data of the same shape, e.g. a folder of images. Default: the held-out examples of the run."""
    split: Split = "test"
    """Part of the run's own data. test: the held-out examples."""
    limit: Count | None = None
    """Number of examples from the start. Default: all."""
    evaluations: Annotated[int, Between(2)] = 256
    """Largest number of network evaluations for each example and class. Clearly worse classes get fewer."""
    seed: Seed = 0
    """Random seed. All classes share the noise."""


@dataclass(frozen=True)
class Compare(Measured):
    """Measure the difference in bits per dimension of two runs on the same examples with the same noise."""

    first: Run
    """Run directory, or a file written by kakusan export."""
    second: Annotated[Path, Positional("OTHER")]
    """Second run, of the same kind of data."""
    limit: Annotated[int, Between(2)] | None = None
    """Number of examples from the start of the split. Default: all."""
    until_decided: bool = False
    """Measure examples in random order and stop as soon as a 95 % confidence sequence excludes no difference."""


@dataclass(frozen=True)
class Export:
    """Write the model of a run in a format for sharing, without paths of this machine."""

    run: Run
    """Run directory. Most formats also take a file written by kakusan export."""
    format: Annotated[str, EXPORTS] = "safetensors"
    """Format. safetensors: one file that kakusan loads."""
    out: Path | None = None
    """New file or folder. Default: RUN with the format's ending, in this folder."""


@dataclass(frozen=True)
class Import(OnDevice):
    """Import a DDPM or DDIM pipeline folder of diffusers as a file, or as a run with its bound and a report."""

    folder: Annotated[Path, Positional("FOLDER")]
    """Pipeline folder with model_index.json, a UNet2DModel and weights in safetensors format."""
    out: Path
    """New file that ends in .safetensors, or new run directory."""
    data: str | None = None
    """Data that the model was trained on, or similar data. A run is measured on their held-out part."""


@dataclass(frozen=True)
class CheckAgainst(Printed):
    """Compare solvers with those of another library, with the same network, schedule and noise. Exits with 1 if they differ."""

    against: Annotated[Literal["diffusers"], Positional("LIBRARY")]
    """Library: diffusers."""
    run: Path | None = None
    """Run directory or exported file whose network is used. Default: a small network of random weights."""


@dataclass(frozen=True)
class Report:
    """Write the HTML report of a finished run."""

    run: Run
    """Run directory."""
    out: Path | None = None
    """New HTML file. Default: RUN-report.html in this folder, RUN-report-ja.html in Japanese."""
    lang: Literal["en", "ja"] = "en"
    """Language of the report."""


@dataclass(frozen=True)
class Doctor(Printed):
    """Check the checkpoints, records and data of a run without changing them. Exits with 1 if something is damaged."""

    run: Run
    """Run directory, or a file written by kakusan export."""


@dataclass(frozen=True)
class Replay(Printed, OnDevice):
    """Repeat one training step of a run and show its batch, loss and gradient. The run does not change."""

    run: Run
    """Run directory."""
    step: Count
    """Number of the step, starting at 1."""
    out: Path | None = None
    """PNG file for the images of the batch."""


@dataclass(frozen=True)
class Recipes:
    """List the recipes."""


@dataclass(frozen=True)
class Data:
    """Describe a data file or folder, and give the command that trains on it."""

    path: Annotated[str, Positional("PATH")]
    """Data: mnist, a folder of images or of IDX files, a .npy or .npz file, or a .csv or .parquet table."""
    size: str | None = None
    """Size that images of a folder are cropped and resized to: pixels, or height x width, e.g. 48x40."""
    channels: Channels | None = None
    """Number of channels of a folder of images: 1 for gray, 3 for color, 4 for color with alpha."""
    columns: str | None = None
    """Types of columns of a table, e.g. age=integer,id=skip. Types: real, integer, categorical, skip. Default: from their values."""
    labels: str | None = None
    """Labels. folders: class subfolders. none: no labels. A column of a table. PATH: a .csv file with name and label. Default: automatic."""
    figure: Path | None = None
    """PNG file that shows up to 100 of the images."""
    cache: Path | None = None
    """Cache folder for the conversion of data larger than memory. Default: none, or runs/data-cache with --forget."""
    forget: bool = False
    """Delete the cached conversion of these data and do nothing else."""


@dataclass(frozen=True)
class Info:
    """Describe a run directory, a .safetensors file or a .png image."""

    file: Annotated[Path, Positional("FILE")]
    """Run directory, .safetensors file, or .png image made by kakusan."""


@dataclass(frozen=True)
class Demo(OnDevice):
    """Train, sample and evaluate a diffusion model of digits, and write a report."""

    out: Path = Path("runs/demo")
    """Run directory. An unfinished run there is resumed, a finished one is shown."""
    minutes: Minutes | None = None
    """Training time in minutes, instead of steps."""
    steps: Steps | None = None
    """Training steps. Default: the recipe's budget."""
    seed: Seed = 0
    """Random seed."""


@dataclass(frozen=True, kw_only=True)
class Processes:
    """Flags of several processes that train together."""

    device: str | None = None
    """Device: auto, cpu, cuda, cuda:N or mps (an Apple GPU). Default: auto, for a resumed run the device it was trained on."""
    devices: Count = 1
    """Number of processes on this machine that train together, one for each GPU."""
    restarts: Annotated[int, Between(0)] = 0
    """Number of restarts from the last checkpoint after a process has died."""


@dataclass(frozen=True, kw_only=True)
class Resume(Processes):
    """Resume a run from its newest checkpoint."""

    resume: Path
    """Run directory."""
    minutes: Minutes | None = None
    """New budget in minutes, counted from the beginning of the run."""
    steps: Steps | None = None
    """New budget in steps, counted from the beginning of the run."""
    data: str | None = None
    """New path of the same data, if they have moved."""
    rollback: bool = False
    """Use new noise and a new order of the data, after too many steps with a non-finite loss."""


@dataclass(frozen=True, kw_only=True)
class NewRun(Processes):
    """Flags that every new run has."""

    out: Path | None = None
    """New run directory. Default: runs/RECIPE-DATE-TIME."""
    minutes: Minutes | None = None
    """Training time in minutes, instead of steps."""
    steps: Steps | None = None
    """Training steps. Default: the recipe's budget."""
    seed: Seed = 0
    """Random seed."""
    optim: Any = None


@dataclass(frozen=True, kw_only=True)
class Train(NewRun):
    """Train a recipe."""

    data: str
    """Data: mnist, mnist-binary, mnist-labels, a folder of images or of IDX files, a .npy or .npz file, or a .csv or .parquet table."""
    size: str | None = None
    """Size that images of a folder are cropped and resized to: pixels, or height x width, e.g. 48x40."""
    channels: Channels | None = None
    """Number of channels of a folder of images: 1 for gray, 3 for color, 4 for color with alpha. Default: 3, or 1 if all
    are gray."""
    columns: str | None = None
    """Types of columns of a table, e.g. age=integer,id=skip. Types: real, integer, categorical, skip. Default: from their values."""
    bad_images: Literal["refuse", "skip"] = "refuse"
    """Action for files that are not usable images."""
    labels: str | None = None
    """Labels to condition on. folders: class subfolders. none: no labels. The name of a column of a table, which is then no
    feature. PATH: a .csv file with the columns name and label, or a .json file of such pairs. Rows of an array are numbered from 0.
    Default: labels.csv or dataset.json in a folder of images, else its class subfolders."""
    init: Path | None = None
    """Run, or a file written by kakusan export, whose weights and settings the new run starts from."""
    model: Any = None


@dataclass(frozen=True, kw_only=True)
class Distill(NewRun):
    """Train a student of a diffusion run."""

    teacher: Path | None = None
    """Diffusion run, or a file written by kakusan export. A copy is kept in the new run."""
    data: str | None = None
    """Other data of the same shape. Default: the data of the teacher."""
    distil: Any = None


COMMANDS: dict[
    str, type
] = {  # in the order of --help, without train, whose flags depend on the recipe: `kakusan.cli.train`
    "demo": Demo,
    "ladder": Ladder,
    "sample": Sample,
    "evaluate": Evaluate,
    "classify": Classify,
    "compare": Compare,
    "score": Score,
    "encode": Encode,
    "reconstruct": Reconstruct,
    "interpolate": Interpolate,
    "report": Report,
    "export": Export,
    "import": Import,
    "check-against": CheckAgainst,
    "doctor": Doctor,
    "replay": Replay,
    "recipes": Recipes,
    "data": Data,
    "info": Info,
}
