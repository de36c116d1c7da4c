"""Wide depthwise convolutions between patches, a perceptron at each of them; one width and one size throughout."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kakusan.nets.folding import Folding
from kakusan.nets.layers import Modulation, hidden_weights, zeroed
from kakusan.nets.time import TimeKind, time_network

KERNEL = 7
EXPANSION = 4


class ConvNeXt(nn.Module):
    """(z_t (b, C, H, W), t (b,)) -> prediction of z_t's shape, and with `gate` also v in [0, 1] of that shape.

    Any height and width. Source: Liu et al. 2022, "A ConvNet for the 2020s", its isotropic form.

    Args:
        channels: C.
        size: (H, W).
        depth: T, for the time table.
        width: Channels of every layer.
        blocks: Residual blocks.
        patch: Pixels a side of a patch.
        time: "sinusoidal" features of t, or a "table" with a row for each t (M12).
        gate: Also return the learned variance's v (M7).
        clusters: How many kinds of examples it is told of: then k (b,), below their number, follows t. 0 for none.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        depth: int,
        width: int = 96,
        blocks: int = 6,
        patch: int = 4,
        time: TimeKind = "sinusoidal",
        gate: bool = False,
        clusters: int = 0,
        time_width: int = 128,
    ):
        super().__init__()
        self.folding = Folding(channels, size, patch, gate=gate)
        self.time = time_network(time, time_width, depth, clusters)
        self.first = nn.Linear(self.folding.channels_in, width)
        self.blocks = nn.ModuleList([Block(width, time_width) for _ in range(blocks)])
        self.norm = nn.LayerNorm(width)
        self.last = zeroed(nn.Linear(width, self.folding.channels_out))

    def forward(self, z: Tensor, t: Tensor, *cluster: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        e = self.time(t, *cluster)
        h = self.first(self.folding.into(z).permute(0, 2, 3, 1))
        for block in self.blocks:
            h = block(h, e)
        return self.folding.back(self.last(self.norm(h)).permute(0, 3, 1, 2))

    def hidden_matrices(self) -> list[Tensor]:
        """Weights between hidden layers: those that an orthogonalising optimiser is for."""
        return hidden_weights(self.blocks)


class Block(nn.Module):
    """Positions mix within each channel, then channels within each position, as t decides; starts as the identity."""

    def __init__(self, width: int, time_width: int):
        super().__init__()
        self.across = nn.Conv2d(width, width, KERNEL, padding=KERNEL // 2, groups=width)
        self.across.weight.data = self.across.weight.data.contiguous(memory_format=torch.channels_last)
        self.norm = nn.LayerNorm(width)
        self.modulation = Modulation(time_width, 2 * width)
        self.widen = nn.Linear(width, EXPANSION * width)
        self.narrow = zeroed(nn.Linear(EXPANSION * width, width))

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """x (b, rows, columns, width)."""
        scale, shift = self.modulation(e)[:, None, None].chunk(2, dim=-1)
        h = self.norm(self.across(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        return x + self.narrow(F.gelu(self.widen(torch.addcmul(h + shift, h, scale))))
