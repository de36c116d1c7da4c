"""Conversion of series to model values, which are standardized per channel and have channels first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from kakusan.noise import Randomness


@dataclass(frozen=True)
class SeriesScale:
    """Map (b, length, channels) in stored units to (b, channels, length) with mean 0 and variance 1.

    Attributes:
        centers: Mean of each channel.
        scales: Standard deviation of each channel.
    """

    centers: tuple[float, ...]
    scales: tuple[float, ...]
    binary: ClassVar[bool] = False
    measured_in: ClassVar[str] = "series"

    @property
    def bin_width(self) -> float:
        """Size of one stored unit in model values: the geometric mean of 1 / std over the channels.

        The density of a series is that of its model values times bin_width to the power length * channels.
        """
        return math.exp(-sum(map(math.log, self.scales)) / len(self.scales))

    def to_model(self, series: Tensor, randomness: Randomness = None) -> Tensor:
        """Convert series float64 (b, length, channels) to model values float32 (b, channels, length)."""
        centers, scales = self._tensors(series)
        return ((series.double() - centers) / scales).float().transpose(1, 2).contiguous()

    def to_series(self, values: Tensor) -> Tensor:
        """Convert model values (b, channels, length) to series float64 (b, length, channels)."""
        centers, scales = self._tensors(values)
        return values.double().transpose(1, 2) * scales + centers

    def _tensors(self, like: Tensor) -> list[Tensor]:
        return [torch.tensor(each, dtype=torch.float64, device=like.device) for each in (self.centers, self.scales)]
