"""Scales between stored values and model values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kakusan.noise import Randomness, rand

TOP = 255


@dataclass(frozen=True)
class Unscaled:
    """Stored values that a model takes as they are, e.g. counts."""

    measured_in: str
    binary = False
    bin_width = None  # such values have probabilities, not densities

    def to_model(self, examples: Tensor, randomness: Randomness = None) -> Tensor:
        """Return the values unchanged."""
        return examples


@dataclass(frozen=True)
class Scale:
    """Scale from pixels 0..255 to [low, high] in 256 equally spaced levels, or to random bits."""

    low: float
    high: float
    binary: bool = False  # each pixel is 1 with probability u / 255: dynamic binarization

    @property
    def bin_width(self) -> float:
        """Distance of neighboring gray levels."""
        return (self.high - self.low) / TOP

    @property
    def measured_in(self) -> str:
        """Unit of the pixels in words: random bits or gray levels."""
        return "random bits" if self.binary else "gray levels"

    def to_model(self, pixels: Tensor, randomness: Randomness = None) -> Tensor:
        """Convert pixels uint8 (b, C, H, W) to model values float32; only binarization uses `randomness`."""
        gray = pixels.float() / TOP
        if self.binary:
            return (rand(gray.shape, randomness, gray.dtype, gray.device) < gray).float()
        return gray * (self.high - self.low) + self.low

    def to_pixels(self, values: Tensor) -> np.ndarray:
        """Convert model values (b, C, H, W) to the nearest gray levels, uint8 (b, H, W, C), clipped at the ends."""
        gray = (values - self.low) / (self.high - self.low)
        return (gray * TOP).round().clamp(0, TOP).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


SIGNED = Scale(-1.0, 1.0)  # discretized likelihoods and diffusion
UNIT = Scale(0.0, 1.0)  # the notes' VAEs
BINARY = Scale(0.0, 1.0, binary=True)
COUNTS = Unscaled("counts")
