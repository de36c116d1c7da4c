"""The "only two changes" of the notes as runs: one per rung from a VAE to a DDPM, with the same data and budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kakusan import __version__
from kakusan.console import command, counted, tell, tell_measuring
from kakusan.errors import InputError, Stopped
from kakusan.likelihood.compare import Comparison, compare
from kakusan.likelihood.evaluation import Evaluation, stderr_words
from kakusan.run.directory import MOST_RECORD_BYTES, RunDirectory, check_new
from kakusan.run.evaluate import measure_bound
from kakusan.run.evaluation_data import data_of
from kakusan.run.recipe import RECIPES, Recipe
from kakusan.run.source import open_source
from kakusan.run.summary import quality_of
from kakusan.run.trained_model import load
from kakusan.run.trained_run import typed_words, with_settings
from kakusan.storage import files, records

PLAN, RECORD = "plan.json", "ladder.json"
DEFAULT_MINUTES = 2.0
OBSERVED = "the probability of the same 8-bit pixels: a Gaussian, integrated over the bin of each of 256 gray levels (discretized)"
TALL = {"lr": 5e-4, "weight_decay": 0.01, "warmup": 100, "decay": "linear", "clip": 1.0, "batch": 128, "ema": 0.1}
SMALL: dict[str, Any] = {
    "likelihood": "discretized",
    "variance": "learned",
    "hidden": 512,
    "upper_hidden": 128,
    "layers": 2,
}
WIDE = {"method": "adam", "lr": 2e-3, "warmup": 100, "batch": 64}


@dataclass(frozen=True)
class Rung:
    """One rung: a recipe with changed settings.

    Attributes:
        name: Name of the run's folder, after its number.
        recipe: Name of the recipe.
        settings: Settings that differ from the recipe's, named as in `kakusan.train`.
        latents: Number and size of the latents as text.
    """

    name: str
    recipe: str
    settings: dict[str, Any]
    latents: str

    def chosen(self) -> Recipe:
        """Return the recipe with these settings."""
        return with_settings(RECIPES[self.recipe], self.settings)


RUNGS = (
    Rung("vae", "mnist-vae", {"hidden": (512, 512)}, "1 of 32"),
    Rung("two-levels", "mnist-hvae", {**SMALL, **TALL, "latents": (32, 16)}, "2, of 32 and 16"),
    Rung("levels", "mnist-hvae", {**SMALL, **TALL, "latents": (32, 28, 24, 20, 16, 12, 8, 4)}, "8, of 32 down to 4"),
    Rung("learned-noise", "learned-noise", {}, "8, data-sized"),
    Rung("fixed-noise", "learned-noise", {"encoder": "noise"}, "8, data-sized"),
    Rung(
        "ddpm",
        "mnist-ddpm",
        {**WIDE, "network": "cosine", "width": 256, "blocks": 2, "clusters": 0, "guidance": 1.0, "end_log_snr": 6.0},
        "1,000, data-sized",
    ),
)


@dataclass(frozen=True)
class Wanted:
    """Request for a ladder. Exactly one of `minutes` and `steps` is the budget of each rung."""

    out: Path
    data: str = "mnist"
    size: tuple[int, int] | None = None
    minutes: float | None = None
    steps: int | None = None
    limit: int = 1000  # number of held-out examples on which all rungs are measured
    samples: int = 1000  # number of samples of each rung that are compared with real images; 0: none
    seed: int = 0
    device: str = "auto"

    @property
    def budget(self) -> str:
        """Return the budget of a rung as text."""
        if self.steps is not None:
            return counted(self.steps, "step")
        return "1 minute" if self.minutes == 1 else f"{self.minutes:g} minutes"

    @property
    def size_text(self) -> str | None:
        """Return the size as --size takes it."""
        return None if self.size is None else "x".join(map(str, self.size))

    def plan(self) -> dict[str, Any]:
        """Return the settings that must not change when a ladder is resumed, as plain JSON values."""
        kept = {name: value for name, value in vars(self).items() if name not in ("out", "device")}
        kept["size"] = None if self.size is None else list(self.size)
        kept["rungs"] = {rung.name: rung.chosen().record() for rung in RUNGS}
        return records.parse(records.to_bytes(kept), PLAN, MOST_RECORD_BYTES)


@dataclass(frozen=True)
class Measured:
    """A finished rung and its measures.

    Attributes:
        rung: The rung.
        path: Its run directory.
        result: Bound of the examples that all rungs share.
        step: Paired difference from the rung below; None for the first rung.
        samples: Record of the samples compared with real images; None if they were not measured.
        summary: Content of the run's summary.json.
        parameters: Number of trained parameters.
    """

    rung: Rung
    path: Path
    result: Evaluation
    step: Comparison | None
    samples: dict[str, Any] | None
    summary: dict[str, Any] = field(repr=False)
    parameters: int = 0

    def record(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "name": self.rung.name,
            "run": self.path.name,
            "latents": self.rung.latents,
            "parameters": self.parameters,
            "steps": self.summary["steps"],
            "seconds": self.summary["seconds"],
            "examples": self.summary["examples"],
            "likelihood": self.result.record(),
            "latent_bits_per_dim": latent_bits(self.result.terms),
            "change": None if self.step is None else self.step.record(),
            "samples": self.samples,
        }


def latent_bits(terms: dict[str, float]) -> float:
    """Return the bits per dimension of all terms but the reconstruction, i.e. the KL terms of the latents."""
    return sum(value for name, value in terms.items() if name != "reconstruction")


def climb(wanted: Wanted) -> dict[str, Any] | int:
    """Train and measure every rung, then write ladder.json. An unfinished ladder is resumed, a finished one is read.

    Returns:
        The content of ladder.json, or the number of the signal that stopped it.

    Raises:
        InputError: If the folder holds something else, or a ladder with other settings.
    """
    _begin(wanted)
    if (wanted.out / RECORD).exists():
        tell(f"{wanted.out} is finished; delete it to train again")
        return read(wanted.out)
    done: list[Measured] = []
    tell(f"{counted(len(RUNGS), 'rung')}, {wanted.budget} each{_in_all(wanted)}; all rungs give {OBSERVED}")
    try:
        for number, rung in enumerate(RUNGS, 1):
            path = wanted.out / f"{number}-{rung.name}"
            tell(f"rung {number} of {len(RUNGS)}: {rung.name}, latents: {rung.latents}")
            if stopped_by := _trained(rung, path, wanted):
                raise Stopped(stopped_by)
            done.append(_measured(rung, path, wanted, done[-1] if done else None))
            tell(f"  {done[-1].result}")
    except Stopped as stopped:
        tell(f"the ladder continues with: {command('ladder', *_flags(wanted))}")
        return stopped.number
    record = {
        "version": __version__,
        "data": done[0].summary["data"],
        "budget": wanted.budget,
        "observation": OBSERVED,
        "command": ["kakusan", "ladder", *_flags(wanted)],
        "seed": wanted.seed,
        "rungs": [one.record() for one in done],
    }
    with files.writing(wanted.out / RECORD):
        # written last, because its presence means that everything is measured
        files.replace(wanted.out / RECORD, records.to_bytes(record))
    return record


def read(out: Path) -> dict[str, Any]:
    """Read ladder.json of a finished ladder; InputError if it is damaged."""
    return _read(out / RECORD)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = records.parse(files.read_regular(path, MOST_RECORD_BYTES), path.name, MOST_RECORD_BYTES)
    except (OSError, InputError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read ({reason}); choose another --out") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} must hold a table, got {type(found).__name__}; choose another --out")
    return found


def _begin(wanted: Wanted) -> None:
    """Create the folder with its plan, or check that an existing folder has the same plan."""
    if (wanted.minutes is None) == (wanted.steps is None):
        raise InputError("expected --minutes or --steps for each rung, got both or none; give one")
    plan = wanted.out / PLAN
    if not plan.exists():
        check_new(wanted.out)
        with files.writing(wanted.out):
            files.make_folders(wanted.out)
            files.replace(plan, records.to_bytes(wanted.plan()))
        return
    before, now = _read(plan), wanted.plan()
    for name, value in now.items():
        if before.get(name) != value:
            words = "" if name == "rungs" else f": {name} was {before.get(name)}, now {value}"
            raise InputError(f"{wanted.out} holds a ladder with other settings{words}; choose another --out")


def _in_all(wanted: Wanted) -> str:
    """Return the time of the whole ladder as text; empty if it is unknown."""
    if wanted.minutes is None:
        return ""
    return f", about {counted(round(len(RUNGS) * wanted.minutes), 'minute')} of training; measuring takes about half as long"


def _trained(rung: Rung, path: Path, wanted: Wanted) -> int:
    """Train a rung, or resume it; return the number of the signal that stopped it."""
    from kakusan.run.train import Resume, Start, resume, start

    if (path / "run.json").exists():
        if RunDirectory.open(path).finished:
            return 0
        return resume(Resume(path)).stopped_by
    recipe = rung.chosen()
    pictures = dataclasses.replace(recipe.pictures, size=wanted.size, labels="none")
    recipe = dataclasses.replace(
        recipe, data=wanted.data, pictures=pictures, minutes=wanted.minutes, steps=wanted.steps
    )
    budget = {"minutes": wanted.minutes, "steps": wanted.steps}
    given = {"data": wanted.data, "labels": "none", "size": wanted.size_text, **budget}
    words = typed_words(RECIPES[rung.recipe], rung.settings, **given, seed=wanted.seed, out=path)
    return start(Start(recipe, path, wanted.seed, wanted.device), words).stopped_by


def _measured(rung: Rung, path: Path, wanted: Wanted, below: Measured | None) -> Measured:
    """Measure bound and samples of a finished rung, on the examples that all rungs share."""
    model, directory = load(path, wanted.device), RunDirectory.open(path)
    dataset = data_of(open_source(path), model, None)
    examples = dataset.test[: wanted.limit]
    tell_measuring(len(examples))
    result = measure_bound(model, examples, wanted.seed).result
    step = compare(result, below.result) if below and len(examples) > 1 else None
    summary = directory.read("summary.json") | {"data": dataset.name}
    samples = summary.get("samples") if wanted.samples else None  # those of the end of training have the same seed
    if wanted.samples and (samples is None or samples["num_samples"] != wanted.samples):
        samples = quality_of(model, dataset, wanted.samples).parts.get("samples")
    return Measured(rung, path, result, step, samples, summary, directory.read("run.json")["parameters"])


def _flags(wanted: Wanted) -> list[str]:
    """Return the flags that resume this ladder."""
    given = {**vars(wanted), "size": wanted.size_text}
    plain = {item.name: item.default for item in dataclasses.fields(Wanted)}
    return [
        word
        for name, value in given.items()
        if value is not None and value != plain[name]
        for word in (f"--{name}", str(value).removesuffix(".0") if name == "minutes" else str(value))
    ]


def lines(record: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the ladder's table for a terminal; `record` is the content of ladder.json."""
    yield f"{'rung':<17}{'bits/dim':>18}{'reconstruction':>16}{'latents':>9}{'change':>19}{'distance':>16}"
    for number, rung in enumerate(record["rungs"], 1):
        bound, change = rung["likelihood"], rung["change"]
        rate = f"{bound['bits_per_dim']:.3f} ± {stderr_words(bound['standard_error'])}"
        moved = "" if change is None else f"{change['difference']:+.3f} ± {change['standard_error']:.4f}"
        parts = f"{bound['terms']['reconstruction']:>16.3f}{rung['latent_bits_per_dim']:>9.3f}"
        yield f"{number} {rung['name']:<15}{rate:>18}{parts}{moved:>19}{distance_words(rung['samples']):>16}".rstrip()
    yield f"on the first {bound['num_images']:,} held-out examples; {record['budget']} each; lower is better"


def distance_words(samples: dict[str, Any] | None) -> str:
    """Return the Fréchet distance with its standard error as text; empty if samples were not measured."""
    found = (
        []
        if samples is None
        else [e for name, e in samples["measures"].items() if name.startswith("frechet_distance_n")]
    )
    return f"{found[0]['value']:.2f} ± {found[0]['standard_error']:.2f}" if found else ""
