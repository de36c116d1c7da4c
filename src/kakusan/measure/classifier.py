"""Two small classifiers with shipped weights, which compute features and class probabilities of images.

`digits` was trained on MNIST and `fashion` on Fashion-MNIST (Xiao, Rasul and Vollgraf 2017, MIT license), both on the
training split alone. Their test accuracies are 99.2 % and 89.7 %. `tools/train_classifier.py` reproduces the training.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load
from torch import Tensor, nn

from kakusan.errors import InputError
from kakusan.progress import progress

SHIPPED = {  # name: SHA-256 of the weights, root mean square of the features of training images
    "digits": ("d9e6738cfd99b7f2d5d0ee2dbc194e2537cce7c5eeba70281e3d17c47d94d891", 6.3),
    "fashion": ("2e2a47e2a53f8b8ced2428473be14085b379ab0fe9bd749de41226cdae25e554", 4.3),
}
SIDE = 28  # pixels
BATCH = 500  # fixed, because rounding of a convolution may depend on the batch size


class Classifier(nn.Module):
    """Convolutional classifier from (b, 1, 28, 28) in [-1, 1] to logits (b, 10) via 64 features."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 24, 5, stride=2, padding=2), nn.ReLU(),
            nn.Conv2d(24, 48, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(48, 48, 3, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(48 * 7 * 7, 64), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(64, 10)

    def features(self, x: Tensor) -> Tensor:
        """Compute features (b, 64)."""
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits (b, 10)."""
        return self.head(self.features(x))


@cache
def classifier(name: str) -> Classifier:
    """Load a shipped classifier, in evaluation mode.

    Raises:
        InputError: If the name is unknown, or the file is not the shipped one.
    """
    if name not in SHIPPED:
        raise InputError(f"no shipped classifier {name!r}; there are: {', '.join(SHIPPED)}")
    content, (expected, _) = _path(name).read_bytes(), SHIPPED[name]
    if (found := hashlib.sha256(content).hexdigest()) != expected:
        raise InputError(f"{_path(name)}: expected SHA-256 {expected}, got {found}; install kakusan again")
    model = Classifier()
    model.load_state_dict(load(content))
    return model.eval().requires_grad_(False)


def features(images: np.ndarray, name: str = "digits") -> Tensor:
    """Features (N, 64) of gray images, uint8 (N, 28, 28, 1), by a shipped classifier: "digits" or "fashion"."""
    return features_and_probabilities(images, name)[0]


def features_and_probabilities(images: np.ndarray, name: str = "digits") -> tuple[Tensor, Tensor]:
    """Features (N, 64) and class probabilities (N, 10) of gray images, uint8 (N, 28, 28, 1).

    The root mean square of the features is about 1.

    Raises:
        InputError: If the images have another shape or dtype.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.shape[1:] != (SIDE, SIDE, 1):
        raise InputError(
            f"the shipped classifiers take gray images, uint8 (N, 28, 28, 1), got {images.dtype} {images.shape}; "
            "give features that you computed elsewhere with --features FILE.npz"
        )
    model = classifier(name)
    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    parts = [model.features(part.float() / 127.5 - 1) for part in progress(x.split(BATCH), "measuring samples")]
    every = torch.cat([torch.zeros(0, 64), *parts])
    return every / SHIPPED[name][1], model.head(every).softmax(1)


def _path(name: str) -> Path:
    return Path(__file__).with_name(f"{name}.safetensors")
