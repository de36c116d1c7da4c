"""A job of two processes, started by test_engine.py with torchrun, that trains the same model in several ways.

Each process writes its results to OUT/RANK.json.
"""

import contextlib
import json
import sys
from pathlib import Path

import torch

from kakusan import distributed
from kakusan.data.augment import augmented
from kakusan.training import checkpoint
from kakusan.training.engine import process_group
from kakusan.training.loop import Trainer
from kakusan.training.settings import Budget, Optim

CPU = torch.device("cpu")
STEPS = 12
SHIFTED = {"augment": "shift-and-mirror", "precision": "bfloat16"}


def trainer(kind="convolutions", steps=STEPS, groups=2, rollbacks=(), **changes):
    """A small problem with everything on: both optimizers, clipping, averages, early weights, buffers, odd sizes."""
    torch.manual_seed(0)
    if kind == "convolutions":
        module = torch.nn.Sequential(
            torch.nn.Conv2d(3, 5, 3, padding=1), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(45, 7),
            torch.nn.Tanh(), torch.nn.Linear(7, 1),
        )  # fmt: skip
        module.hidden_matrices = lambda: [module[0].weight, module[3].weight]
        x = torch.randn(64, 3, 3, 3, generator=torch.Generator().manual_seed(1))
    else:
        module = torch.nn.Linear(4, 1, dtype=torch.float64)
        x = torch.randn(64, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    module.register_buffer("seen", torch.zeros(()))

    def loss(indices, randomness):
        shown = augmented(x[indices], settings.augment, randomness)
        noisy = shown + 0.1 * torch.randn(shown.shape, generator=randomness, dtype=x.dtype)
        return (module(noisy) - x[indices].flatten(1).sum(1, keepdim=True)).square().squeeze(1)

    method = "muon" if kind == "convolutions" else "adam"
    settings = Optim(
        **{"method": method, "lr": 1e-2, "batch": 16, "warmup": 3, "groups": groups, "early": 0.5, **changes}
    )
    return Trainer(module, loss, len(x), settings, Budget(steps=steps), 1, CPU, list(rollbacks))


def run(one, stop_at=None):
    """Train to the end, or stop after a step."""

    def on_step(one):
        if one.state.step == stop_at:
            raise StopIteration

    with contextlib.suppress(StopIteration):
        one.run([0.5, 1.0], lambda one: None, on_step)
    return one


def everything(one):
    """Numbers of a trainer by name, as lists of bytes."""
    tensors, _ = one.snapshot()
    return {
        f"{file}.{name}": tensor.contiguous().flatten().view(torch.uint8).tolist()
        for file, named in tensors.items()
        for name, tensor in named.items()
    }


def main(out: Path) -> None:
    with process_group(CPU):
        seen = {"unbroken": everything(run(trainer()))}
        checkpoint.save(run(trainer(), stop_at=7), out / "half")
        resumed = trainer()
        checkpoint.restore(resumed, out / "half")
        seen["resumed"] = everything(run(resumed))
        seen["shifted in bfloat16"] = everything(run(trainer(**SHIFTED)))
        seen["double"] = everything(run(trainer("line")))
        seen["four groups"] = everything(run(trainer("line", groups=4)))
        bad = trainer(lr=1e-2)
        honest = bad.loss
        bad.loss = lambda indices, noise: (
            honest(indices, noise) * (float("nan") if bad.state.step in (3, 4) and distributed.rank() == 1 else 1)
        )
        run(bad)
        seen["skipped"] = bad.state.skipped
        seen["bad"] = everything(bad)
        mine = {k: {"x": torch.full((k,), k)} for k in range(5) if distributed.owned_by_rank(k)}
        seen["work"] = [part["x"].tolist() for part in distributed.all_gather(mine)]
        seen["bytes"] = [part.decode() for part in distributed.all_gather_bytes(b"ab" * distributed.rank())]
        (out / f"{distributed.rank()}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
