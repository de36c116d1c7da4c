"""A small digit classifier, shipped with its weights, that says how many samples look like digits.

`python -m kakusan.measure.digits` trains it again: two minutes of two CPU cores, seed fixed.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from kakusan.noise import stream

WEIGHTS = Path(__file__).with_name("digits.safetensors")
SURE = 0.9


class DigitClassifier(nn.Module):
    """(b, 1, 28, 28) in [-1, 1] -> logits of the ten digits; `features` are the 64 numbers before them."""

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
        """(b, 64)."""
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


@cache
def classifier() -> DigitClassifier:
    """The shipped one, in evaluation mode."""
    model = DigitClassifier()
    model.load_state_dict(load_file(WEIGHTS))
    return model.eval().requires_grad_(False)


def probabilities(pictures: np.ndarray) -> Tensor:
    """uint8 (N, 28, 28, 1) -> probabilities of the ten digits (N, 10)."""
    x = torch.from_numpy(np.ascontiguousarray(np.asarray(pictures))).permute(0, 3, 1, 2).float() / 127.5 - 1
    return torch.cat([classifier()(part).softmax(1) for part in x.split(500)])


def recognised_share(pictures: np.ndarray) -> float:
    """Share of pictures of which the classifier is at least 90 % sure."""
    return (probabilities(pictures).amax(1) >= SURE).float().mean().item()


def train(seed: int = 0, epochs: int = 6, batch: int = 128) -> DigitClassifier:
    """From scratch, on the embedded training digits, shifted by up to two pixels."""
    from kakusan.data.mnist import mnist, mnist_labels

    torch.manual_seed(seed)
    model = DigitClassifier()
    images, labels = mnist().train, torch.from_numpy(mnist_labels()[0]).long()
    steps = epochs * len(images) // batch
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.02)
    for step in range(steps):
        randomness = stream(seed, "classifier", step)
        rows = torch.randint(len(images), (batch,), generator=randomness)
        shift = torch.randint(-2, 3, (2,), generator=randomness).tolist()
        x = torch.roll(images[rows].float() / 127.5 - 1, shift, dims=(2, 3))
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 100) * (1 - step / steps)
        F.cross_entropy(model(x), labels[rows]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def main() -> None:
    """Train, report, write the weights."""
    from kakusan.data.mnist import mnist, mnist_labels

    model = train()
    save_file(model.state_dict(), WEIGHTS)
    classifier.cache_clear()
    test = probabilities(mnist().test.permute(0, 2, 3, 1).numpy())
    right = (test.argmax(1).numpy() == mnist_labels()[1]).mean()
    print(f"test accuracy {right:.4f}, sure of {(test.amax(1) >= SURE).float().mean():.4f} of the test digits")


if __name__ == "__main__":
    main()
