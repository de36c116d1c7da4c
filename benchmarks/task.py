"""One task of a library in a process of its own, so that its memory and its start can be measured.

python benchmarks/task.py import diffusers
python benchmarks/task.py train kakusan --size 28 --batch 32 --steps 10
python benchmarks/task.py sample lucidrains --weights runs/rival-lucidrains/minute-30.safetensors -n 1
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

PACKAGES = {
    "torch": "torch",
    "kakusan": "kakusan.run.trained_model",  # `import kakusan` itself loads nothing
    "lucidrains": "rivals.lucidrains",
    "diffusers": "rivals.huggingface",
    "azula": "azula.sample",
}
FASTEST = {"lucidrains": "ddim-20", "diffusers": "dpm-sde-20"}  # good samplers, as many calls as ours


def begin_training(library: str, size: int, batch: int):
    """Return a function that trains for n steps on images of noise; only the library and torch are imported."""
    import torch

    torch.manual_seed(0)
    pictures = torch.randint(0, 256, (max(256, batch), 1, size, size), dtype=torch.uint8)
    if library == "kakusan":
        return _our_steps(pictures, batch)
    from rivals import rival
    from rivals.train import Steps

    return Steps(rival(library, size), pictures, batch, 1e-3).take


def _our_steps(pictures, batch: int):
    from dataclasses import replace

    from ours import trainer_on

    from kakusan.recipes import find
    from kakusan.training.settings import Budget

    recipe = find("mnist-ddpm")
    trainer = trainer_on(pictures, replace(recipe, optim=replace(recipe.optim, batch=batch)), Budget(steps=10**9))
    return lambda steps: trainer.go_to(trainer.state.step + steps)


def sample(library: str, weights: Path, n: int) -> None:
    """Draw n samples of trained weights: a run of ours, or a rival's file."""
    if library == "kakusan":
        import kakusan

        kakusan.load(weights).sample(n)
        return
    from rivals import rival
    from safetensors.torch import load_file

    one = rival(library)
    one.take(load_file(weights))
    one.sample(n, FASTEST[library])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["import", "train", "sample"])
    parser.add_argument("library", choices=PACKAGES)
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("-n", type=int, default=1)
    given = parser.parse_args()
    if given.library == "kakusan":
        from kakusan.cli.allocator import keep_freed_memory

        keep_freed_memory()  # as the command does
    if given.what == "import":
        importlib.import_module(PACKAGES[given.library])
    elif given.what == "train":
        begin_training(given.library, given.size, given.batch)(given.steps)
    else:
        sample(given.library, given.weights, given.n)


if __name__ == "__main__":
    main()
