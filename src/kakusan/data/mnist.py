"""The embedded MNIST; its licence stands beside the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kakusan.data.arrays import dataset_of
from kakusan.data.dataset import Dataset

FILE = Path(__file__).with_name("mnist.npz")


def mnist() -> Dataset:
    """60,000 training and 10,000 test digits, uint8 (N, 1, 28, 28)."""
    with np.load(FILE) as arrays:
        return dataset_of("mnist", arrays["train_images"], arrays["test_images"])


def mnist_labels() -> tuple[np.ndarray, np.ndarray]:
    """Which digit each training and each test image shows, uint8 (N,)."""
    with np.load(FILE) as arrays:
        return arrays["train_labels"], arrays["test_labels"]


def mnist_label_counts(group: int = 60) -> Dataset:
    """How often each of the ten digits occurs in successive groups of labels: counts with a known story."""
    tables = [
        np.stack([np.bincount(row, minlength=10) for row in labels[: len(labels) // group * group].reshape(-1, group)])
        for labels in mnist_labels()
    ]
    return dataset_of("mnist-labels", *tables)
