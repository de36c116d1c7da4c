"""Train a rival for minutes of two cores, and store samples and weights at marks.

    python -m rivals.train diffusers runs/rival-diffusers --minutes 30        from the folder benchmarks/
    python -m rivals.train diffusers runs/rival-emoji --data emoji --size 64

The budget is counted in processor seconds of one process with one thread, so that what else the machine does disturbs
little: a minute of two cores is 120 of them. Importing, data and set-up keep one of two cores busy and count twice.
Sampling at a mark does not count. The learning rate falls linearly over the budget, after a short rise.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from images_task import ImagesTask
from safetensors.torch import load_file, save_file
from torch import Tensor

from rivals import NAMES, Rival, rival

CORES = 2
WARMUP = 100  # steps
CHUNK = 250  # samples at a time


def pictures(one: Rival, n: int, sampler: str) -> np.ndarray:
    """Images uint8 (n, h, w, C) of n samples."""
    parts = [one.sample(min(CHUNK, n - first), sampler) for first in range(0, n, CHUNK)]
    levels = ((torch.cat(parts).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous().numpy()


def weights(one: Rival, folder: Path, name: str) -> None:
    """Save the averaged weights as a safetensors file."""
    kept = {key: value.detach().clone().contiguous() for key, value in one.averaged().items()}
    save_file(kept, folder / f"{name}.safetensors")


def finished(folder: Path, minutes: float) -> bool:
    """True if the samples of the last mark are stored."""
    file = folder / "record.json"
    marks = json.loads(file.read_text())["marks"] if file.exists() else []
    return bool(marks) and marks[-1]["minutes"] >= minutes and bool(marks[-1]["sampling"])


def resample(one: Rival, folder: Path, n: int, samplers: list[str]) -> None:
    """Draw again from the weights of the last mark and replace the stored samples."""
    file = folder / "record.json"
    record = json.loads(file.read_text())
    mark = record["marks"][-1]
    name = f"minute-{mark['minutes']:g}"
    one.take(load_file(folder / f"{name}.safetensors"))
    for sampler in samplers:
        began = time.process_time()
        np.save(folder / f"{name}-{sampler}.npy", pictures(one, n, sampler))
        mark["sampling"][sampler] = {"n": n, "processor_seconds": time.process_time() - began}
        file.write_text(json.dumps(record, indent=1))


class Steps:
    """Training steps of a rival on images uint8 (N, C, h, w) in memory, by torch's Adam.

    In bfloat16 its loss is under autocast.
    """

    def __init__(
        self, one: Rival, data: Tensor, batch: int, lr: float, precision: Literal["float32", "bfloat16"] = "float32"
    ):
        self.one, self.data, self.batch, self.lr, self.done = one, data, batch, lr, 0
        self.rounded = precision == "bfloat16"
        self.optimizer = torch.optim.Adam(one.module.parameters(), lr=lr, betas=(0.9, 0.99))

    def take(self, steps: int = 1, left: float = 1.0) -> None:
        """Take more steps; the learning rate is scaled by `left`, the remaining share of the budget."""
        for _ in range(steps):
            for group in self.optimizer.param_groups:
                group["lr"] = self.lr * min(1.0, (self.done + 1) / WARMUP) * left
            x = self.data[torch.randint(len(self.data), (self.batch,))].float() / 127.5 - 1
            with torch.autocast("cpu", torch.bfloat16, enabled=self.rounded):
                loss = self.one.loss(x)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.one.module.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.one.average()
            self.done += 1


def train(
    steps: Steps, seconds: float, spent: float, marks: list[float], on_mark: Callable[[float, int, float], None]
) -> None:
    """Train until `seconds` of processor time are used, `spent` of them before this call.

    At each mark, in such seconds too, `on_mark` is told (mark, steps done, seconds gone); what it does is not counted.
    """
    left = sorted(marks)
    while True:
        while left and spent >= left[0]:
            on_mark(left.pop(0), steps.done, spent)
        if spent >= seconds:
            return
        began = time.process_time()
        steps.take(left=1 - spent / seconds)
        spent += time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rival", choices=NAMES)
    parser.add_argument("folder", type=Path)
    ImagesTask.add_flags(parser)
    parser.add_argument("--minutes", type=float, default=30.0, help="training time on two cores")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-n", type=int, default=1000, help="samples per mark")
    parser.add_argument("--marks", type=float, nargs="*", default=[1, 5, 10, 20, 30], help="minutes of two cores")
    parser.add_argument(
        "--samplers",
        nargs="*",
        help="samplers at each mark; default: the first, and at the end all but the whole chain",
    )
    parser.add_argument("--resample", action="store_true", help="do not train; draw from the last mark's weights")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(given.seed)
    given.folder.mkdir(parents=True, exist_ok=True)
    train_images = ImagesTask.given(given).dataset().train
    one = rival(given.rival, train_images.shape[-1], channels=train_images.shape[1])
    if given.resample:
        resample(one, given.folder, given.n, given.samplers or list(one.samplers[:-1]))
        return
    if (given.folder / "record.json").exists():
        ImagesTask.given(given).check(json.loads((given.folder / "record.json").read_text()), given.folder)
    if finished(given.folder, given.minutes):
        print(f"{given.folder} has trained for {given.minutes:g} minutes; delete it to train anew")
        return
    to_seconds = 60 * CORES
    size = sum(p.numel() for p in one.module.parameters())
    record = {"rival": given.rival, "parameters": size, "batch": given.batch, "lr": given.lr, "seed": given.seed}
    record["task"] = ImagesTask.given(given).flags
    record |= {"minutes": given.minutes, "started": time.strftime("%Y-%m-%d %H:%M", time.gmtime()), "marks": []}

    def on_mark(seconds: float, step: int, spent: float) -> None:
        name = f"minute-{seconds / to_seconds:g}"
        weights(one, given.folder, name)
        row = {"minutes": seconds / to_seconds, "step": step, "images_per_processor_second": step * given.batch / spent}
        row["sampling"] = {}
        record["marks"].append(row)
        last = seconds >= to_seconds * given.minutes
        for sampler in given.samplers or (one.samplers[:-1] if last else one.samplers[:1]):
            began = time.process_time()
            np.save(given.folder / f"{name}-{sampler}.npy", pictures(one, given.n, sampler))
            row["sampling"][sampler] = {"n": given.n, "processor_seconds": time.process_time() - began}
            (given.folder / "record.json").write_text(json.dumps(record, indent=1))
            print(json.dumps(row), flush=True)

    marks = [to_seconds * mark for mark in given.marks if mark <= given.minutes]
    train(
        Steps(one, train_images, given.batch, given.lr),
        to_seconds * given.minutes,
        CORES * time.process_time(),
        marks,
        on_mark,
    )


if __name__ == "__main__":
    main()
