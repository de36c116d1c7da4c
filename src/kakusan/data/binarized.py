"""Binarised MNIST: one fixed draw of bits to be measured on, and grey digits to be drawn from in training.

A grey level u of 0..255 is taken as the probability u / 255 of a bit. As in Burda, Grosse and Salakhutdinov 2016, a
model is trained on bits that are drawn anew whenever an image is seen (`Scale` does it), and measured on one draw
of each test image, made here. Their own draw was never published, so figures compare up to the noise of a draw.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

from kakusan.data.dataset import Dataset
from kakusan.data.mnist import mnist

# SHA-256 of the drawn bytes, 0 or 255, uint8 (N, 1, 28, 28)
TRAIN_SHA256 = "49ea488ea64a010068ab264ae238308a0021167b1e275bb0b32ad299436d3d41"
TEST_SHA256 = "5f0980b13f81dc9f74b9b4f96bd4f2e49b1beb30cb4ed4a73961c1b902caec20"
BYTES = 4  # of the uniform number behind each bit: its probability is right to 2^-32


def mnist_binary() -> Dataset:
    """60,000 grey digits to draw bits from, and `fixed_draw` of the 10,000 test digits; uint8 (N, 1, 28, 28).

    Under a Bernoulli likelihood pixels of 0 and 255 stay what they are, so the held-out bits are the same for all.
    """
    grey = mnist()
    source = "its own test part, as one fixed draw of bits; training bits are drawn anew whenever they are seen"
    return Dataset("mnist-binary", "images", grey.train, fixed_draw(grey.test, "test"), source, bits=True)


def fixed_draw(grey: Tensor, part: str) -> Tensor:
    """Bits, as bytes 0 and 255, that are 1 with probability u / 255; a function of the images and the part's name.

    Image i takes its uniform numbers from SHAKE-128 of "mnist-binary PART i", 4 bytes a pixel, little end first:
    the same on every machine, in every version, in any language.

    Args:
        grey: uint8 (N, C, H, W).
        part: "train" or "test".

    Returns:
        uint8, the same shape.
    """
    thresholds = np.array([u * 256**BYTES // 255 for u in range(256)], dtype=np.uint64)
    drawn = [
        np.frombuffer(_stream(f"mnist-binary {part} {i}", image.size), "<u4").reshape(image.shape) < thresholds[image]
        for i, image in enumerate(grey.numpy())
    ]
    return torch.from_numpy(np.stack(drawn).astype(np.uint8) * 255)


def _stream(key: str, num_pixels: int) -> bytes:
    return hashlib.shake_128(key.encode()).digest(BYTES * num_pixels)
