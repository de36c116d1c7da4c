"""8-bit images, uint8 (N, C, H, W)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kakusan.data.forms.base import Form, in_parts
from kakusan.images import Images

if TYPE_CHECKING:
    from kakusan.data.dataset import Dataset

CHANNELS = (1, 3, 4)
COLORS = {1: "gray", 3: "color", 4: "color with alpha"}
WHITE = 255
DIGITS = (1, 28, 28)
LOW = 64  # images whose largest value of 255 is below this are nearly black


class ImageForm(Form):
    """8-bit images: channels first in a data set, last in samples."""

    name = "images"
    unit = "images"
    shape_words = "[1, 3 or 4 channels, height, width]"
    values = "uint8 pixels"
    bytes_per_value = 1
    augmentable = True
    has_figure = True
    has_pixels = True
    shows_mean = True
    how_to_label = (
        "put images into one subfolder for each class, or add --labels FILE.csv with the columns name and label"
    )

    def fits(self, event_shape: tuple[int, ...]) -> bool:
        """True for three sizes: channels (1, 3 or 4), height and width."""
        return len(event_shape) == 3 and event_shape[0] in CHANNELS

    def describe(self, total: int, event_shape: tuple[int, ...], bits: bool) -> str:
        """Number, color and size of the images, in words."""
        channels, height, width = event_shape
        color = COLORS.get(channels, f"{channels}-channel")
        return f"{total:,} {color} images, {height} x {width}, {'bits' if bits else '8-bit'}"

    def recipe(self, dataset: Dataset) -> str:
        """Name of a recipe for black and white images, for digits, or for other images."""
        binary = dataset.bits or all(bool(((part == 0) | (part == WHITE)).all()) for part in in_parts(dataset.train))
        return "binary-best" if binary else "mnist-ddpm" if dataset.event_shape == DIGITS else "images"

    def from_model(self, parts: list[Tensor], event_shape: tuple[int, ...], scale: Any) -> np.ndarray:
        """Join batches of samples into pixels as `Images`, uint8 (n, H, W, C)."""
        channels, height, width = event_shape
        empty = np.zeros((0, height, width, channels), np.uint8)
        return Images(np.concatenate([empty, *(scale.to_pixels(part) for part in parts)]))

    def prepare(self, parts: list[Tensor]) -> tuple[list[Tensor], str]:
        """Turn the value 1 into white, 255, in images whose only values are 0 and 1."""
        if max((int(part.max()) for part in parts if part.numel()), default=0) != 1:
            return parts, ""
        return [part * WHITE for part in parts], "values 0 and 1 taken as black and white (0 and 255)"

    def samples(self, examples: Tensor) -> np.ndarray:
        """Convert images to channels last, uint8 (n, H, W, C)."""
        return examples.permute(0, 2, 3, 1).numpy()

    def batch_words(self, event_shape: tuple[int, ...]) -> str:
        """Shapes with channels first and last."""
        channels, height, width = event_shape
        return f"(n, {channels}, {height}, {width}) or (n, {height}, {width}, {channels})"

    def stored(self, examples: Tensor, event_shape: tuple[int, ...]) -> Tensor:
        """Convert uint8 images with channels first or last to channels first."""
        channels_last = (*event_shape[1:], *event_shape[:1])
        if channels_last != event_shape and tuple(examples.shape[1:]) == channels_last:
            examples = examples.permute(0, 3, 1, 2)
        fits = tuple(examples.shape[1:]) == event_shape and examples.dtype == torch.uint8
        self.check(examples, event_shape, fits)
        return examples

    def cautions(self, dataset: Dataset, high: float) -> list[str]:
        """Warn about nearly black images."""
        if high >= LOW:
            return []
        return [
            f"caution: the values of {dataset.name} reach only {high:g} of 255, so that images are nearly black; "
            f"if {high:g} is white, save (x * (255 / {high:g})).round().astype('uint8')"
        ]

    def save_figure(
        self, samples: np.ndarray, path: Path, facts: dict[str, Any] | None = None, columns: int | None = None
    ) -> None:
        """Write a grid of the images."""
        Images(samples).save(path, facts, columns)
