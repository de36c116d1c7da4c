"""Time for samples of comparable quality: processor seconds for 1,000 samples of each sampler, and their quality.

    python benchmarks/sampling.py --run runs/demo --rivals runs/rival-diffusers runs/rival-lucidrains -n 1000

Blocks of 250 samples of all samplers alternate. Each library samples its own trained network, as its user does.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from quality import NOTE, quality
from results import Figure, Result, Spread, interleaved, processor_seconds
from rivals import rival
from rivals.train import CHUNK, pictures
from safetensors.torch import load_file
from startup import latest_weights

from kakusan.run.trained_model import load

OURS = (  # sampler, steps, guidance (None: the recipe's)
    ("dpm++2m-sde", 20, None), ("dpm++2m-sde", 10, None), ("dpm++2m-sde", 5, None), ("dpm++2m-sde", 20, 1.0), ("dpm++2m-sde", 10, 1.0),
    ("unipc-2", 10, 1.0), ("ancestral", 50, 1.0),
)  # fmt: skip
Draw = Callable[[], np.ndarray]  # CHUNK more samples


def our_draws(run: Path) -> dict[tuple[str, str], Draw]:
    model = load(run)
    draws = {}
    for name, steps, guidance in OURS:
        first = iter(range(0, 10**9, CHUNK))

        def draw(name=name, steps=steps, guidance=guidance, first=first) -> np.ndarray:
            return np.asarray(model.sample(CHUNK, 1, steps, name, next(first), guidance))

        draws["kakusan", f"{name}-{steps}" + (" guided" if guidance is None else "")] = draw
    return draws


def rival_draws(folder: Path, names: list[str]) -> dict[tuple[str, str], Draw]:
    who, weights = latest_weights(folder)
    one = rival(who)
    one.take(load_file(weights))
    return {
        (who, name): lambda name=name: pictures(one, CHUNK, name) for name in one.samplers if not names or name in names
    }


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--run", type=Path, help="a finished run of mnist-ddpm")
    words.add_argument("--rivals", type=Path, nargs="*", default=[], help="folders written by rivals.train")
    words.add_argument("--samplers", nargs="*", default=[], help="samplers of the rivals; default: all")
    words.add_argument("-n", type=int, default=1000, help=f"samples per sampler, a multiple of {CHUNK}")
    return words


def main() -> None:
    given = parser().parse_args()
    torch.set_num_threads(1)
    draws = our_draws(given.run) if given.run else {}
    for folder in given.rivals:
        draws |= rival_draws(folder, given.samplers)
    drawn: dict[tuple[str, str], list[np.ndarray]] = {key: [] for key in draws}
    blocks = {key: lambda key=key: drawn[key].append(draws[key]()) for key in draws}
    took = interleaved(blocks, max(1, given.n // CHUNK), processor_seconds)
    rows = []
    for key, seconds in took.items():
        cost = Spread.of(seconds).each(lambda one: 1000 * one / CHUNK)
        row = {"library": key[0], "sampler": key[1], "processor seconds for 1,000": round(cost.median, 2)}
        row["quartiles"] = f"{cost.low:.2f} to {cost.high:.2f}"
        rows.append(row | quality(np.concatenate(drawn[key])))
        print(rows[-1], flush=True)
    Result(
        "sampling",
        "How much time do samples of comparable quality take?",
        rows,
        [
            f"One thread and {CHUNK} samples at once; each library has its own trained network. The number after a sampler "
            "is its number of steps. A guided step of kakusan evaluates two networks.",
            NOTE,
        ],
        [Figure("processor seconds for 1,000", "without bias", "library", True, True, points=True)],
    ).write()


if __name__ == "__main__":
    main()
