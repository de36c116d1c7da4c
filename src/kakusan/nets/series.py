"""A denoiser of series: residual convolutions in one dimension with growing dilation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kakusan.nets.base import ImageDenoiser
from kakusan.nets.layers import Modulation, modulate, zeroed
from kakusan.nets.time import TimeKind

KERNEL = 3
MOST_DILATION = 64


class SeriesNet(ImageDenoiser):
    """Denoiser of series, from z_t (b, C, L) and t (b,) to a prediction, and with `gate` also v in [0, 1].

    Both outputs have the shape of z_t. Block k has the dilation 2^k, so the receptive field of 6 blocks has 127
    positions. A learned vector is added at each position, because the start of a series may differ from its end.
    Source of the growing dilation: van den Oord et al. 2016, https://arxiv.org/abs/1609.03499.

    Args:
        channels: C.
        size: (L,).
        num_steps: T, for the time table.
        width: Hidden channels.
        blocks: Number of residual blocks.
        time: "sinusoidal" features of t, or a "table" with one row per t.
        gate: Also return the learned variance's v.
        num_classes: Number of classes if class-conditional, otherwise 0.
        time_width: Width of the embedding of t and cond.
        cond_dim: Number of features if conditional on features, otherwise 0.
    """

    settings = ("width", "blocks")

    def __init__(
        self,
        channels: int,
        size: tuple[int, ...],
        num_steps: int,
        width: int = 64,
        blocks: int = 6,
        time: TimeKind = "sinusoidal",
        gate: bool = False,
        num_classes: int = 0,
        time_width: int = 128,
        cond_dim: int = 0,
    ):
        super().__init__(time, time_width, num_steps, num_classes, cond_dim)
        self.gate = gate
        self.place = nn.Parameter(torch.zeros(1, width, size[-1]))
        self.first = nn.Conv1d(channels, width, KERNEL, padding="same")
        self.blocks = nn.ModuleList([Block(width, time_width, min(2**k, MOST_DILATION)) for k in range(blocks)])
        self.norm = nn.GroupNorm(1, width)
        self.last = zeroed(nn.Conv1d(width, channels * (2 if gate else 1), KERNEL, padding="same"))

    def forward(self, z_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Return the prediction for z_t at t."""
        e = self.embed(t, cond)
        h = self.first(z_t) + self.place
        for block in self.blocks:
            h = block(h, e)
        out = self.last(F.silu(self.norm(h)))
        if not self.gate:
            return out
        prediction, v = out.chunk(2, dim=1)
        return prediction, v.sigmoid()


class Block(nn.Module):
    """Residual block of a dilated and a pointwise convolution, modulated by t and initialized as the identity."""

    def __init__(self, width: int, time_width: int, dilation: int):
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.modulation = Modulation(time_width, 2 * width)
        self.into = nn.Conv1d(width, width, KERNEL, padding="same", dilation=dilation)
        self.back = zeroed(nn.Conv1d(width, width, 1))

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        """Map h (b, width, L) given the embedding e (b, time_width)."""
        scale, shift = self.modulation(e)[:, :, None].chunk(2, dim=1)
        return h + self.back(F.silu(self.into(F.silu(modulate(self.norm(h), scale, shift)))))
