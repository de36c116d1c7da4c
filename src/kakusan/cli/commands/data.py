"""kakusan data: what is in a file or folder."""

from __future__ import annotations

import shlex
from pathlib import Path

from kakusan.cli.arguments import Data
from kakusan.cli.parser import naming_flags
from kakusan.console import tell
from kakusan.data.dataset import Dataset
from kakusan.data.folder import dataset_of_scan, sizes
from kakusan.data.open import is_picture_folder, open_data
from kakusan.data.options import Pictures, size_named
from kakusan.data.scan import Scan, scan
from kakusan.errors import printable
from kakusan.run.cautions import cautions

ROWS = 1000  # of examples that are widened to float64 at a time


def main(command: Data) -> int:
    """Read everything, say what it is, change nothing."""
    with naming_flags():
        wanted = Pictures(size_named(command.size), command.channels)
    flags = [part for name in ("size", "channels") if (v := getattr(command, name)) for part in (f"--{name}", str(v))]
    if is_picture_folder(command.path):
        folder = Path(command.path).resolve()
        found = scan(folder, wanted, tell)
        _say_scan(found)
        dataset = dataset_of_scan(folder, found, wanted)
        flags += ["--bad-images", "skip"] if found.bad else []
    else:
        dataset = open_data(command.path, wanted)
    _say_dataset(dataset, ["--data", command.path, *flags])
    return 0


def _say_scan(found: Scan) -> None:
    """Sizes, kinds and every bad file of a folder of pictures."""
    if found.names:
        colour = f"{found.colour:,} in colour, {len(found.names) - found.colour:,} grey"
        print(f"{len(found.names):,} pictures ({colour}, {found.blended:,} with an alpha channel): {sizes(found)}")
    if found.bad:
        print(f"{len(found.bad):,} files that are no usable pictures:")
        print(*(f"  {name}: {reason}" for name, reason in found.bad.items()), sep="\n")


def _say_dataset(dataset: Dataset, flags: list[str]) -> None:
    """What training would see, and how to train on it."""
    values = dataset.train
    mean = sum(rows.double().sum().item() for rows in values.split(ROWS)) / values.numel()
    print(dataset.describe())
    print(f"values from {values.min().item():g} to {values.max().item():g}, mean {mean:.4g}")
    print(f"SHA-256 {dataset.digest()}")
    for line in cautions(dataset):
        print(line)
    images = "binary-best" if dataset.bits else "mnist-ddpm"
    recipe = "counts-dirichlet" if dataset.kind == "counts" else images
    print(f"train on it with: {printable(shlex.join(['kakusan', 'train', recipe, *flags]))}")
