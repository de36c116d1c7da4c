"""Cost of training by image size and batch size: images per processor second of one thread.

    python benchmarks/cost.py --sizes 16 28 32 64 --batches 8 32 128

Each library trains the network of the quality comparison, on images of noise, in interleaved blocks. `throughput.py`
compares the same architecture on both sides.
"""

from __future__ import annotations

import argparse

import torch
from results import Figure, Result, Spread, interleaved, processor_seconds
from task import begin_training

LIBRARIES = ("kakusan", "lucidrains", "diffusers")


def rows_of(size: int, batch: int, images: int, rounds: int, libraries: list[str]) -> list[dict]:
    """Rows of the table, one per library; a block is about `images` images."""
    steps = max(1, images // batch)
    take = {name: begin_training(name, size, batch) for name in libraries}
    for one in take.values():
        one(2)
    took = interleaved({name: lambda one=one: one(steps) for name, one in take.items()}, rounds, processor_seconds)
    rows = []
    for name in libraries:
        rate = Spread.of(took[name]).each(lambda seconds: steps * batch / seconds)
        row = {"library": name, "size": size, "batch": batch, "images a processor second": round(rate.median, 1)}
        rows.append(row | {"quartiles": f"{rate.low:.1f} to {rate.high:.1f}", "n": rate.n})
        print(rows[-1], flush=True)
    return rows


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--sizes", type=int, nargs="*", default=[16, 28, 32, 64], help="side in pixels, divisible by 4")
    words.add_argument("--batches", type=int, nargs="*", default=[8, 32, 128])
    words.add_argument("--images", type=int, default=128, help="images per block, about")
    words.add_argument("--rounds", type=int, default=7)
    words.add_argument("--libraries", nargs="*", default=list(LIBRARIES))
    return words


def main() -> None:
    given = parser().parse_args()
    torch.set_num_threads(1)
    rows = []
    for size in given.sizes:  # of all batches at 28 pixels, of all sizes at batch 32
        for batch in given.batches:
            if size == 28 or batch == 32:
                rows += rows_of(size, batch, given.images, given.rounds, given.libraries)
    Result(
        "cost",
        "How fast is training for different image and batch sizes?",
        rows,
        [
            "Times include forward and backward passes, the optimizer and averaged weights, with data in memory and one "
            "thread; kakusan runs all its checks. Each library has its own network of `time_to_quality`. That of kakusan "
            "works on 2 x 2 pixels at a time and has about 990,000 parameters. The others have 170,000 and 270,000.",
        ],
        [Figure("size", "images a processor second", "library", True, True, among=("batch", 32))],
    ).write()


if __name__ == "__main__":
    main()
