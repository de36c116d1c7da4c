"""A small network that tells noised data from noised samples, at every noise level."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kakusan.errors import InputError
from kakusan.nets.folding import Folding
from kakusan.nets.layers import Modulation, hidden_weights, zeroed
from kakusan.nets.time import SinusoidalTime

FOLD = 2  # pixels of a side that become channels
SLOPE = 0.2  # of the activation below zero


class Discriminator(nn.Module):
    """(z_t (b, C, H, W), t (b,)) -> log-odds (b,) that z_t is noised data; all 0 at first.

    Strided convolutions without normalisation, whose gradient in z_t reaches every pixel. Any height and width.

    Args:
        channels: C.
        size: (H, W).
        width: Channels at the finest level; twice and four times as many after it.
    """

    def __init__(self, channels: int, size: tuple[int, int], width: int = 32, time_width: int = 64):
        super().__init__()
        if width < 1:
            raise InputError(f"a discriminator's width must be at least 1, got {width}; 32 suits small pictures")
        self.folding = Folding(channels, size, FOLD)
        rows, columns = (-(-side // 4) for side in self.folding.grid)  # a strided convolution rounds up
        self.time = SinusoidalTime(time_width)
        self.first = nn.Conv2d(self.folding.channels_in, width, 3, padding=1)
        self.halved = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.again = nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1)
        self.modulation = Modulation(time_width, 2 * 4 * width)
        self.last = zeroed(nn.Linear(4 * width * rows * columns, 1))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        scale, shift = self.modulation(self.time(t))[:, :, None, None].chunk(2, dim=1)
        h = self.folding.into(z).contiguous(memory_format=torch.channels_last)
        h = F.leaky_relu(self.first(h), SLOPE)
        h = F.leaky_relu(self.halved(h), SLOPE)
        h = self.again(h)
        h = F.leaky_relu(torch.addcmul(h + shift, h, scale), SLOPE)
        return self.last(h.flatten(1))[:, 0]

    def hidden_matrices(self) -> list[Tensor]:
        """Weights between hidden layers: those that an orthogonalising optimiser is for."""
        return hidden_weights(self.halved, self.again)
