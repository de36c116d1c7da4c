"""kakusan data: what is in a file or folder."""

from __future__ import annotations

from kakusan.cli import Data
from kakusan.data.open import open_data


def main(command: Data) -> int:
    """Read everything, say what it is, change nothing."""
    dataset = open_data(command.path)
    print(dataset.describe())
    print(
        f"values from {dataset.train.min().item():g} to {dataset.train.max().item():g}, mean {dataset.train.double().mean():.4g}"
    )
    print(f"SHA-256 {dataset.digest()}")
    images = "binary-best" if dataset.bits else "mnist-ddpm"
    recipe = "counts-dirichlet" if dataset.kind == "counts" else images
    print(f"train on it with: kakusan train {recipe} --data {command.path}")
    return 0
