"""Space-to-depth: conversion of an image to a grid of patches whose pixels are channels, and back."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


class Folding:
    """Conversion of images (b, C, H, W) to (b, C fold^2, rows, columns), padded at the right and the bottom, and back.

    Args:
        channels: C.
        size: (H, W).
        fold: Side in pixels of a patch that becomes one position.
        multiple: Number to a multiple of which height and width are padded; default: `fold`.
        gate: True if the network's output has twice the channels: a prediction, and the log-odds of the learned
            variance's v (M7).
    """

    def __init__(
        self, channels: int, size: tuple[int, int], fold: int, multiple: int | None = None, gate: bool = False
    ):
        height, width = self.size = size
        multiple = multiple or fold
        self.padding = (0, -width % multiple, 0, -height % multiple)
        self.fold, self.gate = fold, gate
        self.grid = (height + self.padding[3]) // fold, (width + self.padding[1]) // fold
        self.channels_in = channels * fold**2
        self.channels_out = self.channels_in * (2 if gate else 1)

    def into(self, z: Tensor) -> Tensor:
        """Fold images (b, C, H, W) to (b, channels_in, *grid)."""
        return F.pixel_unshuffle(F.pad(z, self.padding), self.fold)

    def back(self, h: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Convert an output (b, channels_out, *grid) to the prediction (b, C, H, W), and with `gate` also v in [0, 1]."""
        return self.split(self.unfold(h))

    def unfold(self, h: Tensor) -> Tensor:
        """Unfold an output (b, channels_out, *grid) to (b, C or 2 C, H, W)."""
        return F.pixel_shuffle(h, self.fold)[:, :, : self.size[0], : self.size[1]]

    def split(self, y: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Split an unfolded output (b, C or 2 C, H, W) into the prediction, and with `gate` also v in [0, 1]."""
        if not self.gate:
            return y
        prediction, logit = y.chunk(2, dim=1)
        return prediction, logit.sigmoid()
