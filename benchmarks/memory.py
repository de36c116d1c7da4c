"""Peak resident memory of importing, training and sampling, each in a process of its own.

python benchmarks/memory.py --run runs/demo --rivals runs/rival-diffusers runs/rival-lucidrains
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from results import Result, Spread, child, interleaved
from startup import TASK, latest_weights
from task import PACKAGES

TRAINED = ("kakusan", "lucidrains", "diffusers")


def commands(
    run: Path | None, rivals: list[Path], batches: list[int], samples: int
) -> dict[tuple[str, str], list[str]]:
    here = [sys.executable, TASK]
    typed = {("import", name): [*here, "import", name] for name in PACKAGES}
    for batch in batches:
        for name in TRAINED:
            typed[f"10 training steps, batch {batch}", name] = [*here, "train", name, "--batch", str(batch)]
    weights = dict(map(latest_weights, rivals)) | ({"kakusan": run} if run else {})
    for name, file in weights.items():
        typed[f"{samples} samples", name] = [*here, "sample", name, "--weights", str(file), "-n", str(samples)]
    return typed


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--run", type=Path, help="a finished run of mnist-ddpm")
    words.add_argument("--rivals", type=Path, nargs="*", default=[], help="folders written by rivals.train")
    words.add_argument("--batches", type=int, nargs="*", default=[32, 128])
    words.add_argument("--samples", type=int, default=250, help="samples per batch")
    words.add_argument("--repeats", type=int, default=5)
    return words


def main() -> None:
    given = parser().parse_args()
    typed = commands(given.run, given.rivals, given.batches, given.samples)
    took = interleaved(typed, given.repeats, child)
    rows = []
    for (what, name), found in took.items():
        peak = Spread.of([one.peak_mib for one in found])
        rows.append(
            {
                "what": what,
                "library": name,
                "peak MiB": round(peak.median),
                "quartiles": f"{peak.low:.0f} to {peak.high:.0f}",
                "n": peak.n,
            }
        )
    Result(
        "memory",
        "How much memory do importing, training and sampling take at most?",
        rows,
        [
            "Peak resident memory of a process with one thread, including about 200 MiB of torch itself. Training uses "
            "28 x 28 images and, for each library, the network of the quality comparison.",
        ],
    ).write()


if __name__ == "__main__":
    main()
