"""Train a shipped classifier of kakusan.measure again and print its test accuracy and digest.

python tools/train_classifier.py digits
python tools/train_classifier.py fashion FOLDER

FOLDER holds the IDX files of Fashion-MNIST. Training takes minutes on two cores, with a fixed seed. The weights are written
next to kakusan/measure/classifier.py; the printed digest belongs into SHIPPED there.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional as F

from kakusan.data.open import open_data
from kakusan.measure import classifier
from kakusan.noise import stream
from kakusan.storage import files

LEARNING_RATE, WARMUP = 2e-3, 100


def train(images: Tensor, labels: Tensor, seed: int = 0, epochs: int = 6, batch: int = 128) -> classifier.Classifier:
    """Train from scratch on images uint8 (N, 1, 28, 28), shifted by up to two pixels."""
    torch.manual_seed(seed)
    model = classifier.Classifier()
    steps = epochs * len(images) // batch
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=0.02)
    for step in range(steps):
        randomness = stream(seed, "classifier", step)
        rows = torch.randint(len(images), (batch,), generator=randomness)
        shift = torch.randint(-2, 3, (2,), generator=randomness).tolist()
        x = torch.roll(images[rows].float() / 127.5 - 1, shift, dims=(2, 3))
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / WARMUP) * (1 - step / steps)
        F.cross_entropy(model(x), labels[rows]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def main(name: str, folder: str = "mnist") -> None:
    data = open_data(folder)
    if data.train_cond is None or data.test_cond is None:
        sys.exit(f"{folder}: expected images with labels")
    model = train(data.train, data.train_cond)
    content = save(model.state_dict())
    files.replace(Path(classifier.__file__).with_name(f"{name}.safetensors"), content)
    with torch.no_grad():
        logits = torch.cat([model(part.float() / 127.5 - 1) for part in data.test.split(classifier.BATCH)])
    right = (logits.argmax(1) == data.test_cond).double().mean().item()
    print(f"{name}: test accuracy {right:.4f}, SHA-256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
