"""Quality of a run's samples against network evaluations (NFE), for every sampler and for the whole chain.

    python benchmarks/samplers.py runs/demo                     1,000 samples of each, without guidance
    python benchmarks/samplers.py runs/demo -n 500 --guidance 3

Samples are stored in --folder, 250 per file, so that an interrupted benchmark resumes. Writes docs/samplers.md and
docs/samplers.png and prints the table. For digits only: the features are the shipped digit classifier's.
"""

from __future__ import annotations

import argparse
import functools
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from kept import samples
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter
from quality import measures

from kakusan.measure import Value
from kakusan.run.families.diffusion import DiffusionConfig
from kakusan.run.trained_model import TrainedModel, load
from kakusan.solvers import SOLVERS

STEPS = (5, 10, 20, 50)  # at equal NFE heun takes half as many, rounded up
SPACING = "karras"
SAMPLERS = [name for name in SOLVERS if name != "renoise"]  # renoise is for students
SEED = 1
DOCS = Path(__file__).parent.parent / "docs"


@dataclass(frozen=True)
class Row:
    """One way to sample: its NFE and the quality of its samples."""

    sampler: str
    steps: int
    calls: float  # of networks, for one sample
    n: int
    recognized: float
    distance: Value
    corrected: Value  # the distance without its bias in n


def measured(model: TrainedModel, folder: Path, guidance: float, sampler: str, steps: int, n: int) -> Row:
    """Row of one way to sample."""
    pictures, calls = samples(model, folder, n, SEED, solver=sampler, spacing=SPACING, steps=steps, guidance=guidance)
    found = measures(pictures)
    distance, corrected = found["frechet_distance"], found["frechet_distance_unbiased"]
    return Row(sampler, steps, calls, n, found["recognized"].value, distance, corrected)


def table(rows: list[Row], long: Row) -> str:
    """Table in Markdown."""
    lines = [
        "| sampler | steps | NFE | samples | recognized | Fréchet distance | without bias | ratio to the whole chain |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in [long, *rows]:
        lines.append(
            f"| {row.sampler} | {row.steps} | {row.calls:g} | {row.n:,} | {row.recognized:.1%} "
            f"| {row.distance.value:.2f} ± {row.distance.standard_error:.2f} | {row.corrected.value:.2f} "
            f"| {row.corrected.value / long.corrected.value:.2f} |"
        )
    return "\n".join(lines)


def figure(rows: list[Row], long: Row, path: Path) -> None:
    """Plot of distance and recognized share against NFE."""
    drawing = Figure(figsize=(10, 4), layout="constrained")
    left, right = drawing.subplots(1, 2)
    for name in SAMPLERS:
        mine = [row for row in rows if row.sampler == name]
        left.plot([row.calls for row in mine], [row.corrected.value for row in mine], marker="o", label=name)
        right.plot([row.calls for row in mine], [row.recognized for row in mine], marker="o", label=name)
    left.axhline(long.corrected.value, color="grey", linestyle="--", label=f"ancestral, {long.calls:g} calls")
    right.axhline(long.recognized, color="grey", linestyle="--")
    for axes, word in ((left, "Fréchet distance without its bias"), (right, "recognized share")):
        axes.set(xscale="log", xlabel="NFE", ylabel=word)
        axes.set_xticks(STEPS, [str(steps) for steps in STEPS])
        axes.minorticks_off()
    left.semilogy()  # the fewest calls are far off, and would press the others together
    left.yaxis.set_major_formatter(ScalarFormatter())
    left.yaxis.set_minor_formatter(ScalarFormatter())
    left.legend(fontsize=8)
    drawing.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("-n", type=int, default=1000, help="samples per row, a multiple of 250")
    parser.add_argument("--long-n", type=int, help="samples of the whole chain, T evaluations each; default: n")
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark-samplers"))
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of samplers.md and samplers.png")
    given = parser.parse_args()
    model = load(given.run)
    assert model.diffusion is not None, "a diffusion run"
    row = functools.partial(measured, model, given.folder, given.guidance)
    rows = [row(name, (k + 1) // 2 if name == "heun" else k, given.n) for k in STEPS for name in SAMPLERS]
    rows.sort(key=lambda one: SAMPLERS.index(one.sampler))
    long = row("ancestral", model.diffusion.depth, given.long_n or given.n)
    words = table(rows, long)
    print(words)
    assert isinstance(model.recipe.model, DiffusionConfig)
    end = model.recipe.model.end_log_snr
    ended = "" if end is None else f"; sampling with few steps ends at log-SNR {end:g}, and the whole chain does not"
    where = f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}, torch {torch.__version__}"
    text = (
        "# Samplers: quality against NFE\n\n"
        f"Written by `benchmarks/samplers.py` on {time.strftime('%Y-%m-%d', time.gmtime())}; {where}; recipe "
        f"{model.recipe.name}, {model.recipe.minutes or '?'} minutes of training, guidance {given.guidance:g}, spacing {SPACING}, seed {SEED}{ended}. "
        "The distance is that between samples and all test digits, by the 64 features of the shipped digit classifier, with "
        "one standard error (jackknife). Its bias falls as 1 / n and is removed in the next column. Recognized: the "
        "classifier's confidence is at least 90 %. The first row is the whole chain, and the last column is the ratio to it.\n\n"
        f"{words}\n\n![Distance and recognized share against NFE](samplers.png)\n"
    )
    (given.out / "samplers.md").write_text(text)
    figure(rows, long, given.out / "samplers.png")


if __name__ == "__main__":
    main()
