"""A batch of 8-bit images: an array that notebooks display as a grid."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from kakusan.storage import files

GAP = 2
GAP_GRAY = 96
SMALLEST_CELL = 56  # pixels; smaller images are enlarged, so that each pixel becomes a square


class Images(np.ndarray):
    """Images uint8 (N, H, W, C). Notebooks display a grid; slicing and numpy work as on any array."""

    def __new__(cls, array: np.ndarray) -> Images:
        """View an array as images; InputError if its shape or dtype does not fit."""
        array = np.asarray(array)
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] not in (1, 3, 4):
            raise ValueError(f"expected uint8 (N, H, W, 1, 3 or 4), got {array.dtype} {array.shape}")
        return array.view(cls)

    def grid(self, columns: int | None = None) -> Image.Image:
        """Arrange all images in one grid, in reading order; default: as square as possible."""
        if self.ndim != 4 or not len(self):
            raise ValueError(f"a grid needs images (N, H, W, C), got shape {self.shape}")
        plain = np.asarray(self)
        count, height, width, channels = plain.shape
        columns = columns or math.ceil(math.sqrt(count))
        rows = math.ceil(count / columns)
        zoom = max(1, SMALLEST_CELL // max(height, width))
        plain = plain.repeat(zoom, axis=1).repeat(zoom, axis=2)
        height, width = height * zoom, width * zoom
        canvas = np.full(
            (rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, channels), GAP_GRAY, dtype=np.uint8
        )
        for index, image in enumerate(plain):
            top = GAP + index // columns * (height + GAP)
            left = GAP + index % columns * (width + GAP)
            canvas[top : top + height, left : left + width] = image
        return Image.fromarray(canvas[:, :, 0] if channels == 1 else canvas)

    def save(self, path: Path | str, facts: dict[str, Any] | None = None, columns: int | None = None) -> None:
        """Write the grid as PNG, with facts about its origin as text chunks.

        At least one chunk is always written. It marks the file as made by kakusan, and data folders skip such files.
        """
        text = PngInfo()
        text.add_text("kakusan:software", "kakusan")
        for name, value in (facts or {}).items():
            text.add_text(f"kakusan:{name}", str(value))
        buffer = io.BytesIO()
        self.grid(columns).save(buffer, format="PNG", pnginfo=text)
        files.replace(Path(path), buffer.getvalue())

    def numpy(self) -> np.ndarray:
        """Return the plain array."""
        return np.asarray(self)

    def _repr_png_(self) -> bytes | None:
        if self.ndim != 4 or not len(self):
            return None
        buffer = io.BytesIO()
        self.grid().save(buffer, format="PNG")
        return buffer.getvalue()
