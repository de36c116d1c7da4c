"""kakusan data: describe a data file or folder."""

from __future__ import annotations

import shlex

from kakusan.cli.arguments import Data
from kakusan.cli.parser import naming_flags
from kakusan.console import tell
from kakusan.data.cautions import cautions
from kakusan.data.dataset import Dataset
from kakusan.data.open import open_data
from kakusan.data.options import ImageOptions, size_named
from kakusan.errors import printable

NUMBERS_AT_ONCE = 2**24  # examples summed at a time, to save memory


def main(command: Data) -> int:
    """Read and describe the data without changing anything."""
    with naming_flags():
        options = ImageOptions(size_named(command.size), command.channels, bad="skip")
    flags = [part for name in ("size", "channels") if (v := getattr(command, name)) for part in (f"--{name}", str(v))]
    dataset = open_data(command.path, options, tell)
    flags += ["--bad-images", "skip"] if dataset.skipped else []
    _print(dataset, ["--data", command.path, *flags])
    return 0


def _print(dataset: Dataset, flags: list[str]) -> None:
    """Print the data as training would see them, and the command that trains on them."""
    if dataset.contents:
        print(dataset.contents)
    if dataset.skipped:
        print(f"{len(dataset.skipped):,} unusable files:")
        print(*(f"  {name}: {reason}" for name, reason in dataset.skipped.items()), sep="\n")
    values = dataset.train
    total = sum(part.double().sum().item() for part in values.flatten().split(NUMBERS_AT_ONCE))
    print(f"{dataset.name}: {dataset.examples()}")
    for line in [dataset.split(), dataset.labels(), *dataset.prepared.split("; ")]:
        if line:
            print(f"  {line}")
    print(f"  values from {values.min().item():g} to {values.max().item():g}, mean {total / values.numel():.4g}")
    print(f"  SHA-256 {dataset.digest()}")
    for line in cautions(dataset):
        print(line)
    binary = dataset.bits or (dataset.kind == "images" and bool(((values == 0) | (values == 255)).all()))
    recipe = "counts-dirichlet" if dataset.kind == "counts" else "binary-best" if binary else "mnist-ddpm"
    print(f"train on it with: {printable(shlex.join(['kakusan', 'train', recipe, *flags]))}")
