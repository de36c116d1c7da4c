"""How good are a run's samples, and how many network calls do they cost? Every sampler against calls, and the long chain.

    python benchmarks/samplers.py runs/demo                     1,000 samples of each, without guidance
    python benchmarks/samplers.py runs/demo -n 500 --guidance 3

Samples are kept in --folder, 250 to a file, so that an interrupted benchmark goes on. Writes docs/samplers.md and
docs/samplers.png and prints the table. Digits only: the features are the shipped digit classifier's.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from kakusan.data.open import open_data
from kakusan.diffusion import Diffusion
from kakusan.measure.classifier import features_and_probabilities
from kakusan.measure.frechet import frechet_distances
from kakusan.measure.value import Value
from kakusan.model import TrainedModel, load
from kakusan.samplers import SAMPLER_ORDERS as SAMPLERS  # those that are made for a denoiser
from kakusan.samplers.calls import counted

STEPS = (5, 10, 20, 50)  # for the same price heun takes half as many, rounded up
CHUNK = 250
SPACING = "karras"
SURE = 0.9
SEED = 1
DOCS = Path(__file__).parent.parent / "docs"


@dataclass(frozen=True)
class Row:
    """One way to sample, its price and what it made."""

    sampler: str
    steps: int
    calls: float  # of networks, for one sample
    n: int
    recognised: float
    distance: Value
    corrected: Value  # the distance without its bias in n


def samples(model: TrainedModel, folder: Path, name: str, steps: int, guidance: float, n: int) -> np.ndarray:
    """n samples, those of an earlier run among them; all chunks are whole."""
    parts = []
    for first in range(0, n, CHUNK):
        file = folder / f"{name}-{SPACING}-steps{steps}-guidance{guidance:g}-seed{SEED}-first{first}.npy"
        if not file.exists():
            drawn = model.sample(CHUNK, SEED, steps, name, first, guidance, SPACING)
            half = file.with_suffix(".part.npy")
            np.save(half, np.asarray(drawn))
            half.replace(file)
        parts.append(np.load(file))
    return np.concatenate(parts)[:n]


def measure(
    model: TrainedModel, real: torch.Tensor, pictures: np.ndarray, name: str, steps: int, guidance: float
) -> Row:
    """The row of one way to sample; a single further sample tells its price."""
    with counted(*model.denoisers) as calls:
        model.sample(1, SEED, steps, name, guidance=guidance, spacing=SPACING)
    features, probabilities = features_and_probabilities(pictures, "digits")
    distance, corrected = frechet_distances(features, real)
    recognised = (probabilities.amax(1) >= SURE).float().mean().item()
    return Row(name, steps, calls.total, len(pictures), recognised, distance, corrected)


def table(rows: list[Row], long: Row) -> str:
    """Markdown."""
    lines = [
        "| sampler | steps | network calls | samples | recognised | Frechet distance | without bias | of the long chain's |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in [long, *rows]:
        lines.append(
            f"| {row.sampler} | {row.steps} | {row.calls:g} | {row.n:,} | {row.recognised:.1%} "
            f"| {row.distance.value:.2f} ± {row.distance.standard_error:.2f} | {row.corrected.value:.2f} "
            f"| {row.corrected.value / long.corrected.value:.2f} |"
        )
    return "\n".join(lines)


def figure(rows: list[Row], long: Row, path: Path) -> None:
    """Distance and recognised share against calls."""
    drawing = Figure(figsize=(10, 4), layout="constrained")
    left, right = drawing.subplots(1, 2)
    for name in SAMPLERS:
        mine = [row for row in rows if row.sampler == name]
        left.plot([row.calls for row in mine], [row.corrected.value for row in mine], marker="o", label=name)
        right.plot([row.calls for row in mine], [row.recognised for row in mine], marker="o", label=name)
    left.axhline(long.corrected.value, color="grey", linestyle="--", label=f"ancestral, {long.calls:g} calls")
    right.axhline(long.recognised, color="grey", linestyle="--")
    for axes, word in ((left, "Frechet distance without its bias"), (right, "recognised share")):
        axes.set(xscale="log", xlabel="network calls a sample", ylabel=word)
    left.legend(fontsize=8)
    drawing.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("-n", type=int, default=1000, help="samples of each, a multiple of 250")
    parser.add_argument(
        "--long-n", type=int, help="samples of the whole chain, which cost T calls each; n unless given"
    )
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark-samplers"))
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of samplers.md and samplers.png")
    given = parser.parse_args()
    model = load(given.run)
    assert isinstance(model.chain, Diffusion), "a diffusion run"
    given.folder.mkdir(parents=True, exist_ok=True)
    real, _ = features_and_probabilities(open_data("mnist").test.permute(0, 2, 3, 1).numpy(), "digits")

    def row(name: str, steps: int, n: int) -> Row:
        pictures = samples(model, given.folder, name, steps, given.guidance, n)
        return measure(model, real, pictures, name, steps, given.guidance)

    rows = [row(name, (k + 1) // 2 if name == "heun" else k, given.n) for k in STEPS for name in SAMPLERS]
    rows.sort(key=lambda one: list(SAMPLERS).index(one.sampler))
    long = row("ancestral", model.chain.depth, given.long_n or given.n)
    words = table(rows, long)
    print(words)
    where = f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}, torch {torch.__version__}"
    text = (
        "# Samplers: quality against network calls\n\n"
        f"Written by `benchmarks/samplers.py` on {time.strftime('%Y-%m-%d', time.gmtime())}; {where}; recipe "
        f"{model.recipe.name}, {model.recipe.minutes or '?'} minutes of training, guidance {given.guidance:g}, spacing {SPACING}, seed {SEED}. "
        "The distance is between the 64 features of the shipped digit classifier, of samples and of all test digits, with "
        "one standard error (jackknife); its bias falls as 1 / n and is taken away in the next column. Recognised: the "
        "classifier is at least 90 % sure. The first line is the whole chain; the last column compares with it.\n\n"
        f"{words}\n\n![Distance and recognised share against network calls](samplers.png)\n"
    )
    (given.out / "samplers.md").write_text(text)
    figure(rows, long, given.out / "samplers.png")


if __name__ == "__main__":
    main()
