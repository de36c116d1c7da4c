"""Time to the first image: imports, and one sample of trained weights, each in a process of its own.

    python benchmarks/startup.py --run runs/demo --rivals runs/rival-diffusers runs/rival-lucidrains --repeats 9

Without runs the imports alone are timed. Wall-clock seconds are what a person waits; processor seconds do not count other
load.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from results import Result, Spread, child, interleaved
from task import PACKAGES

TASK = str(Path(__file__).with_name("task.py"))


def latest_weights(folder: Path) -> tuple[str, Path]:
    """Name of the library and the weights of its last mark."""
    record = json.loads((folder / "record.json").read_text())
    return record["rival"], folder / f"minute-{record['marks'][-1]['minutes']:g}.safetensors"


def commands(run: Path | None, rivals: list[Path], folder: Path) -> dict[tuple[str, str], list[str]]:
    """Commands by task and library; output goes to the folder."""
    here = [sys.executable]
    typed = {("import", name): [*here, TASK, "import", name] for name in PACKAGES}
    typed["nothing", "python"] = [*here, "-c", ""]
    typed["help", "kakusan"] = [*here, "-m", "kakusan", "--help"]
    if run:
        typed["one sample", "kakusan"] = [*here, "-m", "kakusan", "sample", str(run), "-n", "1", "--out", str(folder)]
        typed["one sample by load()", "kakusan"] = [*here, TASK, "sample", "kakusan", "--weights", str(run)]
    for rival in rivals:
        name, weights = latest_weights(rival)
        typed["one sample", name] = [*here, TASK, "sample", name, "--weights", str(weights)]
    return typed


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--run", type=Path, help="a finished run of mnist-ddpm")
    words.add_argument("--rivals", type=Path, nargs="*", default=[], help="folders written by rivals.train")
    words.add_argument("--repeats", type=int, default=9)
    return words


def main() -> None:
    given = parser().parse_args()
    with TemporaryDirectory() as folder:
        took = interleaved(commands(given.run, given.rivals, Path(folder)), given.repeats, child)
    rows = []
    for (what, whose), found in took.items():
        wall = Spread.of([one.wall_seconds for one in found])
        busy = Spread.of([one.processor_seconds for one in found])
        rows.append(
            {
                "what": what,
                "library": whose,
                "seconds": round(wall.median, 2),
                "quartiles": f"{wall.low:.2f} to {wall.high:.2f}",
                "processor seconds": round(busy.median, 2),
                "quartiles of those": f"{busy.low:.2f} to {busy.high:.2f}",
                "n": wall.n,
            }
        )
    Result(
        "startup",
        "How long do importing and the first sample take?",
        sorted(rows, key=lambda row: (row["what"], row["seconds"])),
        [
            "Processes with one thread run interleaved, with files in the page cache. lucidrains is "
            "denoising-diffusion-pytorch, without torchvision, which it would also import. diffusers imports only its U-Net "
            "and three schedulers.",
            "One sample: `kakusan sample RUN -n 1` uses its default sampler, which evaluates two networks in guided steps, "
            "and writes a figure and an array. The other libraries sample with 20 network evaluations from a file of "
            "weights and write nothing.",
        ],
    ).write()


if __name__ == "__main__":
    main()
