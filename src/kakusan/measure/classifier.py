"""Two small classifiers, shipped with their weights: whose features samples are measured by, whose classes are counted.

`digits` was trained on MNIST, `fashion` on Fashion-MNIST (Xiao, Rasul and Vollgraf 2017, MIT licence), both on the
training part alone; they name 99.2 % and 89.7 % of the test pictures rightly.
`python -m kakusan.measure.classifier digits` trains one again, and `... fashion FOLDER` the other from a folder of IDX
files: minutes of two CPU cores, seed fixed.
"""

from __future__ import annotations

import gzip
import hashlib
import sys
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional as F

from kakusan.errors import InputError
from kakusan.noise import stream
from kakusan.storage import files

SHIPPED = {  # name: SHA-256 of the weights, root mean square of the features of training pictures
    "digits": ("d9e6738cfd99b7f2d5d0ee2dbc194e2537cce7c5eeba70281e3d17c47d94d891", 6.3),
    "fashion": ("2e2a47e2a53f8b8ced2428473be14085b379ab0fe9bd749de41226cdae25e554", 4.3),
}
SIDE = 28  # pixels
BATCH = 500  # fixed: a convolution may round differently in a batch of another size


class Classifier(nn.Module):
    """(b, 1, 28, 28) in [-1, 1] -> logits of the ten classes; `features` are the 64 numbers before them."""

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
def classifier(name: str) -> Classifier:
    """A shipped one, in evaluation mode.

    Raises:
        InputError: If there is none of that name, or its file is not the one that was shipped.
    """
    if name not in SHIPPED:
        raise InputError(f"no shipped classifier {name!r}; there are: {', '.join(SHIPPED)}")
    content, (expected, _) = _path(name).read_bytes(), SHIPPED[name]
    if (found := hashlib.sha256(content).hexdigest()) != expected:
        raise InputError(f"{_path(name)}: expected SHA-256 {expected}, got {found}; install kakusan again")
    model = Classifier()
    model.load_state_dict(load(content))
    return model.eval().requires_grad_(False)


def features_and_probabilities(pictures: np.ndarray, name: str) -> tuple[Tensor, Tensor]:
    """uint8 (N, 28, 28, 1) -> features (N, 64), of size about 1, and probabilities of the ten classes (N, 10).

    Raises:
        InputError: If the pictures have another shape.
    """
    pictures = np.asarray(pictures)
    if pictures.dtype != np.uint8 or pictures.shape[1:] != (SIDE, SIDE, 1):
        raise InputError(
            f"the shipped features are of grey pictures uint8 (N, 28, 28, 1), got {pictures.dtype} {pictures.shape}; "
            "give features that you computed elsewhere with --features FILE.npz"
        )
    model = classifier(name)
    x = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2)
    features = [model.features(part.float() / 127.5 - 1) for part in x.split(BATCH)]
    every = torch.cat([torch.zeros(0, 64), *features])
    return every / SHIPPED[name][1], model.head(every).softmax(1)


def train(images: Tensor, labels: Tensor, seed: int = 0, epochs: int = 6, batch: int = 128) -> Classifier:
    """From scratch, on pictures (uint8 (N, 1, 28, 28)) shifted by up to two pixels."""
    torch.manual_seed(seed)
    model = Classifier()
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


def main(arguments: list[str]) -> None:
    """Train one, report, write its weights and say the digest that belongs into SHIPPED."""
    from kakusan.data.digits import mnist, mnist_labels
    from kakusan.data.open import open_data

    name = arguments[0]
    folder = Path(arguments[1]) if name == "fashion" else None
    dataset = open_data(folder) if folder else mnist()
    train_labels, test_labels = _labels(folder) if folder else mnist_labels()
    model = train(dataset.train, torch.from_numpy(train_labels).long())
    content = save(model.state_dict())
    files.replace(_path(name), content)
    with torch.no_grad():
        logits = torch.cat([model(part.float() / 127.5 - 1) for part in dataset.test.split(BATCH)])
    right = (logits.argmax(1).numpy() == test_labels).mean()
    print(f"{name}: test accuracy {right:.4f}, SHA-256 {hashlib.sha256(content).hexdigest()}")


def _labels(folder: Path) -> list[np.ndarray]:
    """Of the training and the test part, uint8 (N,): an IDX file's eight bytes of header, then one byte a label."""
    files = [folder / f"{part}-labels-idx1-ubyte.gz" for part in ("train", "t10k")]
    return [np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8, offset=8).copy() for file in files]


def _path(name: str) -> Path:
    return Path(__file__).with_name(f"{name}.safetensors")


if __name__ == "__main__":
    main(sys.argv[1:])
