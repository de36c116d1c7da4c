"""The embedded MNIST, its labels, and its binarized form; its license is in the same folder.

In the binarized form, a gray level u of 0..255 is the probability u / 255 that a bit is 1. As in Burda, Grosse and
Salakhutdinov 2016, training draws new bits whenever an image is used (`Scale`), and the test set is one fixed draw.
Their draw was not published, so results agree up to the noise of a draw.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kakusan.data.arrays import dataset_of
from kakusan.data.dataset import Dataset

FILE = Path(__file__).with_name("mnist.npz")
# SHA-256 of the drawn bytes, 0 or 255, uint8 (N, 1, 28, 28)
TRAIN_SHA256 = "49ea488ea64a010068ab264ae238308a0021167b1e275bb0b32ad299436d3d41"
TEST_SHA256 = "5f0980b13f81dc9f74b9b4f96bd4f2e49b1beb30cb4ed4a73961c1b902caec20"
BYTES = 4  # size of the uniform number for each bit, whose probability is then exact to 2^-32


def mnist() -> Dataset:
    """60,000 training and 10,000 test digits with their labels, uint8 (N, 1, 28, 28)."""
    with np.load(FILE) as arrays:
        return dataset_of(
            "mnist",
            arrays["train_images"],
            arrays["test_images"],
            labels=arrays["train_labels"],
            test_labels=arrays["test_labels"],
        )


def mnist_labels() -> tuple[np.ndarray, np.ndarray]:
    """The digit that each training and each test image shows, uint8 (N,)."""
    with np.load(FILE) as arrays:
        return arrays["train_labels"], arrays["test_labels"]


def mnist_label_counts(group: int = 60) -> Dataset:
    """Counts of the ten digits in successive groups of `group` labels, float64 (N, 10)."""
    tables = [
        np.stack([np.bincount(row, minlength=10) for row in labels[: len(labels) // group * group].reshape(-1, group)])
        for labels in mnist_labels()
    ]
    return dataset_of("mnist-labels", *tables)


def mnist_binary() -> Dataset:
    """60,000 gray training digits, and the `fixed_draw` of the 10,000 test digits; uint8 (N, 1, 28, 28).

    Under a Bernoulli likelihood pixels of 0 and 255 do not change, so the held-out bits are always the same.
    """
    gray = mnist()
    source = "its own test part, as one fixed draw of bits; training bits are drawn anew whenever they are seen"
    return Dataset(
        "mnist-binary",
        "images",
        gray.train,
        fixed_draw(gray.test, "test"),
        source,
        bits=True,
        train_cond=gray.train_cond,
        test_cond=gray.test_cond,
        classes=gray.classes,
    )


def fixed_draw(gray: Tensor, part: str) -> Tensor:
    """Bits as bytes 0 and 255, with probability u / 255 of a 1; a function of the images and the part's name.

    Image i takes its uniform numbers from SHAKE-128 of "mnist-binary PART i", 4 bytes a pixel, little-endian:
    the same on every machine, in every version, in any language.

    Args:
        gray: uint8 (N, C, H, W).
        part: "train" or "test".

    Returns:
        uint8, the same shape.
    """
    thresholds = np.array([u * 256**BYTES // 255 for u in range(256)], dtype=np.uint64)
    drawn = [
        np.frombuffer(_stream(f"mnist-binary {part} {i}", image.size), "<u4").reshape(image.shape) < thresholds[image]
        for i, image in enumerate(gray.numpy())
    ]
    return torch.from_numpy(np.stack(drawn).astype(np.uint8) * 255)


def _stream(key: str, num_pixels: int) -> bytes:
    return hashlib.shake_128(key.encode()).digest(BYTES * num_pixels)
