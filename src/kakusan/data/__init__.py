"""Data sets in memory: embedded digits, folders of images or IDX files, and arrays; independent of models.

>>> from kakusan import data
>>> digits = data.mnist()
>>> digits.train.shape, digits.labels()
(torch.Size([60000, 1, 28, 28]), '10 classes')
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kakusan.registry import lazy_names

if TYPE_CHECKING:
    from kakusan.data.dataset import Dataset, from_arrays
    from kakusan.data.digits import mnist, mnist_binary, mnist_labels
    from kakusan.data.open import KINDS, open_data
    from kakusan.data.options import ImageOptions
    from kakusan.data.scale import BINARY, SIGNED, UNIT, Scale

_MODULES = {
    "Dataset": "dataset",
    "from_arrays": "dataset",
    "mnist": "digits",
    "mnist_binary": "digits",
    "mnist_labels": "digits",
    "KINDS": "open",
    "open_data": "open",
    "ImageOptions": "options",
    "Scale": "scale",
    "SIGNED": "scale",
    "UNIT": "scale",
    "BINARY": "scale",
}
__all__ = [
    "BINARY",
    "KINDS",
    "SIGNED",
    "UNIT",
    "Dataset",
    "ImageOptions",
    "Scale",
    "from_arrays",
    "mnist",
    "mnist_binary",
    "mnist_labels",
    "open_data",
]


__getattr__, __dir__ = lazy_names(__name__, _MODULES, __all__)
