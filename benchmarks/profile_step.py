"""Where the time of a training step goes: convolutions and matrix products, other operations, optimizer, and the rest.

    python benchmarks/profile_step.py                      every recipe below
    python benchmarks/profile_step.py mnist-ddpm --steps 40

One thread. Shares are those of a profiled step's processor time, and the milliseconds those of a step without the profiler.
The profiler gives the time inside each operation. The rest is Python and torch's dispatch. Data are random, except the
embedded digits.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from images_task import recipe_on
from ours import trainer_on
from results import Result, processor_seconds
from torch.profiler import ProfilerActivity, profile

from kakusan.data.dataset import Dataset, from_arrays
from kakusan.data.open import open_data
from kakusan.training.loop import Trainer
from kakusan.training.settings import Budget

RECIPES = {  # name of the row: recipe and shape of random images; None: the embedded digits
    "mnist-ddpm": ("mnist-ddpm", None),
    "mnist-vae": ("mnist-vae", None),
    "mnist-hvae": ("mnist-hvae", None),
    "binary-best": ("binary-best", None),
    "images, 32 x 32 color": ("images", (3, 32, 32)),
    "images, 64 x 64 color": ("images", (3, 64, 64)),
    "images, 128 x 128 color": ("images", (3, 128, 128)),
    "vae, 32 x 32 color": ("vae", (3, 32, 32)),
    "hvae, 32 x 32 color": ("hvae", (3, 32, 32)),
}
PRODUCTS = ("conv", "mm", "addmm", "bmm", "linear", "attention")  # in the names of operations
EXAMPLES = 2000  # random images; from 1,000 on, the width of the network is that of large sets


def data_of(shape: tuple[int, ...] | None) -> Dataset:
    """The embedded digits, or random images."""
    if shape is None:
        return open_data("mnist")
    pixels = torch.randint(0, 256, (EXAMPLES, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return from_arrays("random", "images", pixels, None)


def trainer_of(name: str, shape: tuple[int, ...] | None) -> Trainer:
    """A trainer of a recipe, with the network that it chooses for such data."""
    data = data_of(shape)
    return trainer_on(data.train, recipe_on(name, data), Budget(steps=10**9))


def operations(trainer: Trainer, steps: int) -> dict[str, float]:
    """Share of each operation in a profiled step, without the operations that it calls."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        seconds = processor_seconds(lambda: [trainer.step() for _ in range(steps)])
    spent = {event.key: event.self_cpu_time_total / 1e6 / seconds for event in found.key_averages()}
    return {name: share for name, share in spent.items() if name.startswith("aten::")}  # not spans of Python


def row_of(title: str, steps: int) -> dict[str, Any]:
    """Shares of one recipe's step."""
    trainer = trainer_of(*RECIPES[title])
    for _ in range(5):
        trainer.step()
    spent_there, plain = [], trainer.optimizers.step
    trainer.optimizers.step = lambda *given: spent_there.append(processor_seconds(lambda: plain(*given)))  # type: ignore[method-assign]
    seconds = processor_seconds(lambda: [trainer.step() for _ in range(steps)]) / steps
    optimizer = sum(spent_there) / steps
    shares = operations(trainer, steps)
    products = sum(share for name, share in shares.items() if any(word in name for word in PRODUCTS))
    others = sum(shares.values()) - products
    largest = sorted(set(shares) - {name for name in shares if any(word in name for word in PRODUCTS)}, key=shares.get)
    return {
        "recipe": title,
        "ms per step": round(1e3 * seconds, 1),
        "convolutions and products": f"{products:.0%}",
        "other operations": f"{others:.0%}",
        "largest other operations": ", ".join(
            f"{name.removeprefix('aten::')} {shares[name]:.0%}" for name in largest[:-4:-1]
        ),
        "Python and dispatch": f"{max(0.0, 1 - products - others):.0%}",
        "optimizer": f"{optimizer / seconds:.0%}",
    }


def main() -> None:
    """Profile the recipes, and write the table."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("recipes", nargs="*", default=list(RECIPES), metavar="RECIPE")
    flags.add_argument("--steps", type=int, default=20)
    given = flags.parse_args()
    torch.set_num_threads(1)
    rows = []
    for title in given.recipes:
        rows.append(row_of(title, given.steps))
        print(rows[-1], flush=True)
    notes = [
        "The times are processor time of one thread. Matrix products of Muon count both as products and as optimizer. The "
        "profiler slows down short operations, so the shares of small networks are rough."
    ]
    Result("profile_step", "Where does the time of a training step go?", rows, notes).write()


if __name__ == "__main__":
    main()
