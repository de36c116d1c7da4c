"""A small image network made for few operations: half of the picture's detail is folded into channels first.

A CPU's cost is convolution at full size. Space-to-depth by two makes the finest level a quarter as large, one
further halving makes the coarse level cheap enough for most of the width, and there a layer across all
positions joins distant strokes, which convolutions of this depth cannot (measured in docs/log.md).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kakusan.errors import InputError
from kakusan.nets.folding import Folding
from kakusan.nets.layers import GroupNorm, Modulation, hidden_weights, zeroed
from kakusan.nets.time import TimeKind, time_network

FOLD = 2  # pixels of a side that become channels
HALVINGS = 1  # levels below the finest
GROUPS = 8  # of the normalisation


class UNet(nn.Module):
    """(z_t (b, C, H, W), t (b,)) -> prediction of z_t's shape, and with `gate` also v in [0, 1] of that shape.

    Any height and width: the picture is padded to a multiple of four and cut back, so that bounds count real pixels.

    Args:
        channels: C.
        size: (H, W).
        depth: T, for the time table.
        width: Channels at the finest level, a multiple of 8; of 16 is fastest on a CPU with AVX-512.
        inner_width: Channels at the coarse level, likewise.
        blocks: Residual blocks at the coarse level.
        time: "sinusoidal" features of t, or a "table" with a row for each t (M12).
        gate: Also return the learned variance's v (M7).
        clusters: How many kinds of examples it is told of: then k (b,), below their number, follows t. 0 for none.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        depth: int,
        width: int = 32,
        inner_width: int = 96,
        blocks: int = 2,
        time: TimeKind = "sinusoidal",
        gate: bool = False,
        clusters: int = 0,
        time_width: int = 128,
    ):
        super().__init__()
        if width < GROUPS or inner_width < GROUPS or width % GROUPS or inner_width % GROUPS or blocks < 1:
            raise InputError(
                f"widths must be multiples of {GROUPS} and blocks at least 1, got {width}, {inner_width} and {blocks}"
            )
        self.folding = Folding(channels, size, FOLD, FOLD * 2**HALVINGS, gate)
        self.time = time_network(time, time_width, depth, clusters)
        self.first = nn.Conv2d(self.folding.channels_in, width, 3, padding=1)
        self.down = nn.Conv2d(width, inner_width, 2, stride=2)
        self.coarse = nn.ModuleList([ResidualBlock(inner_width, time_width) for _ in range(blocks)])
        positions = math.prod(self.folding.grid) // 4**HALVINGS
        if inner_width // GROUPS * positions < 2:
            raise InputError(
                f"pictures of {size[0]} x {size[1]} need an inner width of at least {2 * GROUPS}, got {inner_width}"
            )
        self.mixers = nn.ModuleList([PositionMixer(inner_width, positions) for _ in range(blocks)])
        self.wholes = nn.ModuleList([WholeImage(inner_width, positions) for _ in range(blocks)])
        self.up = nn.Conv2d(inner_width, 4 * width, 1)
        self.merge = nn.Conv2d(2 * width, width, 1)
        self.fine = ResidualBlock(width, time_width)
        self.last_norm = GroupNorm(GROUPS, width)
        self.last = zeroed(nn.Conv2d(width, self.folding.channels_out, 3, padding=1))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)

    def forward(self, z: Tensor, t: Tensor, *cluster: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        e = self.time(t, *cluster)
        h = self.first(self.folding.into(z).contiguous(memory_format=torch.channels_last))
        inner = self.down(h)
        for block, mixer, whole in zip(self.coarse, self.mixers, self.wholes):
            inner = whole(mixer(block(inner, e)))
        h = self.merge(torch.cat([F.pixel_shuffle(self.up(inner), 2), h], dim=1))
        return self.folding.back(self.last(F.silu(self.last_norm(self.fine(h, e)))))

    def hidden_matrices(self) -> list[Tensor]:
        """Weights between hidden layers: those that an orthogonalising optimiser is for."""
        # the whole-image layers are left out as too large: orthogonalising them would cost more than it gains
        return hidden_weights(self.down, self.coarse, self.mixers, self.up, self.merge, self.fine)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions around a scale and shift that t decides; starts as the identity."""

    def __init__(self, width: int, time_width: int):
        super().__init__()
        self.norm1, self.norm2 = GroupNorm(GROUPS, width), GroupNorm(GROUPS, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = zeroed(nn.Conv2d(width, width, 3, padding=1))
        self.modulation = Modulation(time_width, 2 * width)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        scale, shift = self.modulation(e)[:, :, None, None].chunk(2, dim=1)
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        return x + self.conv2(F.silu(torch.addcmul(h + shift, h, scale)))


class PositionMixer(nn.Module):
    """A two-layer perceptron across all positions, the same for each channel; starts as the identity.

    Source: Tolstikhin et al. 2021, the token mixing of the MLP-Mixer.
    """

    def __init__(self, width: int, positions: int, hidden: int = 128):
        super().__init__()
        self.norm = GroupNorm(GROUPS, width)
        self.into = nn.Linear(positions, hidden)
        self.back = zeroed(nn.Linear(hidden, positions))

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.back(F.silu(self.into(self.norm(x).flatten(2))))
        return x + mixed.view_as(x)


class WholeImage(nn.Module):
    """A few channels of every position through one perceptron: the only layer that sees the whole image at once.

    A multiplication a weight and image makes it almost free beside convolutions. Starts as the identity.
    """

    def __init__(self, width: int, positions: int, channels: int = 8, hidden: int = 256):
        super().__init__()
        self.norm = GroupNorm(GROUPS, width)
        self.squeeze = nn.Conv2d(width, channels, 1)
        self.into = nn.Linear(channels * positions, hidden)
        self.back = nn.Linear(hidden, channels * positions)
        self.expand = zeroed(nn.Conv2d(channels, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.squeeze(self.norm(x))
        return x + self.expand(self.back(F.silu(self.into(h.flatten(1)))).view_as(h))
