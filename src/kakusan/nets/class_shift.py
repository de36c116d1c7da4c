"""The class embedding of encoders and decoders, a learned vector for each class."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from kakusan.nets.base import check_classes
from kakusan.nets.time import CLASS_STD


class ClassShift(nn.Module):
    """Addition of a learned tensor for the class to h; without classes, h is unchanged.

    After a linear layer, this equals appending a one-hot class to that layer's input.

    Args:
        num_classes: Number of classes; 0 for unconditional.
        shape: Shape of the tensor, which broadcasts against one example of h, e.g. (channels, 1, 1).
    """

    def __init__(self, num_classes: int, shape: Sequence[int]):
        super().__init__()
        self.num_classes, self.shape = num_classes, tuple(shape)
        self.table = nn.Embedding(num_classes, math.prod(shape)) if num_classes else None
        if self.table is not None:
            nn.init.normal_(self.table.weight, std=CLASS_STD)

    def forward(self, h: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return h (b, ...) shifted by the classes cond, int64 (b,); InputError if cond does not fit."""
        check_classes(cond, len(h), self.num_classes)
        return h if self.table is None else h + self.table(cond).view(-1, *self.shape)
