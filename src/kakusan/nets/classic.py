"""The U-Net of the DDPM paper, made fast on a CPU without changing what it computes.

Pictures stay in channels-last memory, where convolutions of few channels run fastest and where a list of positions for
attention is the same memory. A convolution of a picture enlarged by two is computed from the small picture. What t says
to all residual blocks is one matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kakusan.errors import InputError
from kakusan.nets.folding import Folding
from kakusan.nets.layers import GroupNorm, Modulation, attend, hidden_weights, zeroed
from kakusan.nets.time import TimeKind, time_network

KERNEL = 3
# Row k of a transposed convolution's 4-tap kernel, as a sum of rows of a 3-tap one that reads an enlarged picture: each
# row of the small picture is met twice there, and a tap that meets the same row as its neighbour is added to it.
ENLARGED = ((0.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 0.0), (1.0, 0.0, 0.0))


class ClassicUNet(nn.Module):
    """(z_t (b, C, H, W), t (b,)) -> prediction of z_t's shape, and with `gate` also v in [0, 1] of that shape.

    Any height and width. Source: Ho, Jain and Abbeel 2020, appendix B; what they do at 16 x 16, attention, is
    settled here for each level.

    Args:
        channels: C.
        size: (H, W).
        depth: T, for the time table.
        widths: Channels at each level, the finest first; each further level halves height and width.
        blocks: Residual blocks a level on the way down; one more on the way up.
        attention: Whether each level attends after its blocks; nowhere unless given.
        middle_attention: Whether the middle does.
        head_width: Channels of an attention head; None for one head.
        groups: Of every normalisation, a divisor of each width. Where a group is one channel, a block does not hear t: what
            is the same at all positions is normalised away.
        time: "sinusoidal" features of t, or a "table" with a row for each t (M12).
        gate: Also return the learned variance's v (M7).
        clusters: How many kinds of examples it is told of: then k (b,), below their number, follows t. 0 for none.
        time_features: Sinusoids of t; widths[0] unless given.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        depth: int,
        widths: Sequence[int] = (32, 64, 128),
        blocks: int = 2,
        attention: Sequence[bool] | None = None,
        middle_attention: bool = True,
        head_width: int | None = None,
        groups: int = 4,
        time: TimeKind = "sinusoidal",
        gate: bool = False,
        clusters: int = 0,
        time_features: int | None = None,
    ):
        super().__init__()
        attention = [False] * len(widths) if attention is None else list(attention)
        if not widths or blocks < 1 or len(attention) != len(widths):
            raise InputError(
                "expected one or more widths, one `attention` for each of them, and 1 or more blocks, "
                f"got {widths}, {attention} and {blocks}"
            )
        if any(width % groups or width % (head_width or width) for width in widths):
            raise InputError(f"widths must be multiples of {groups} groups and of {head_width} a head, got {widths}")
        self.folding = Folding(channels, size, fold=1, multiple=2 ** (len(widths) - 1), gate=gate)
        positions = self.folding.grid[0] * self.folding.grid[1] // 4 ** (len(widths) - 1)
        if widths[-1] // groups * positions < 2:  # a lone number has no spread to divide by
            raise InputError(f"pictures of {size} need a coarsest width of at least {2 * groups}, got {widths[-1]}")
        time_width = 4 * widths[0]
        features = time_features or widths[0]
        self.time = time_network(time, time_width, depth, clusters, features)
        self.first = nn.Conv2d(channels, widths[0], KERNEL, padding=1)

        def block(width_in: int, width: int, attends: bool) -> Block:
            return Block(width_in, width, groups, head_width, attends)

        kept = [widths[0]]  # widths of what the way up will meet
        down, up, shrink, enlarge = [], [], [], []
        for level, width in enumerate(widths):
            for _ in range(blocks):
                down.append(block(kept[-1], width, attention[level]))
                kept.append(width)
            if level < len(widths) - 1:
                shrink.append(nn.Conv2d(width, width, KERNEL, stride=2, padding=1))
                kept.append(width)
        middle = [block(widths[-1], widths[-1], attends) for attends in (middle_attention, False)]
        before = widths[-1]
        for level, width in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                up.append(block(before + kept.pop(), width, attention[level]))
                before = width
            if level:
                enlarge.append(EnlargedConv2d(width, width))
        self.down, self.middle, self.up = nn.ModuleList(down), nn.ModuleList(middle), nn.ModuleList(up)
        self.shrink, self.enlarge = nn.ModuleList(shrink), nn.ModuleList(enlarge)
        self.blocks, self.told = blocks, [part.width for part in (*down, *middle, *up)]
        self.norm = GroupNorm(groups, widths[0])
        self.last = zeroed(nn.Conv2d(widths[0], self.folding.channels_out, KERNEL, padding=1))
        self.shifts = Modulation(time_width, sum(self.told))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)

    def forward(self, z: Tensor, t: Tensor, *cluster: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        shifts = iter(self.shifts(self.time(t, *cluster)).split(self.told, dim=1))
        # of one channel both layouts are the same memory, and the convolution would choose the other one
        h = self.first(self.folding.into(z)).contiguous(memory_format=torch.channels_last)
        kept = [h]
        for index, block in enumerate(self.down, 1):
            h = block(h, next(shifts))
            kept.append(h)
            if index % self.blocks == 0 and index < len(self.down):
                h = self.shrink[index // self.blocks - 1](h)
                kept.append(h)
        for block in self.middle:
            h = block(h, next(shifts))
        for index, block in enumerate(self.up, 1):
            h = block(torch.cat([h, kept.pop()], dim=1), next(shifts))
            if index % (self.blocks + 1) == 0 and index < len(self.up):
                h = self.enlarge[index // (self.blocks + 1) - 1](h)
        return self.folding.back(self.last(F.silu(self.norm(h))))

    def hidden_matrices(self) -> list[Tensor]:
        """Weights between hidden layers: those that an orthogonalising optimiser is for."""
        inner = hidden_weights(self.down, self.shrink, self.middle, self.up)
        return inner + [layer.weight for layer in self.enlarge.modules() if isinstance(layer, EnlargedConv2d)]


class Block(nn.Module):
    """Two 3 x 3 convolutions with a shift between them that t decides, then attention if asked, around shortcuts."""

    def __init__(self, width_in: int, width: int, groups: int, head_width: int | None, attends: bool):
        super().__init__()
        self.width = width
        self.norm1, self.norm2 = GroupNorm(groups, width_in), GroupNorm(groups, width)
        self.conv1 = nn.Conv2d(width_in, width, KERNEL, padding=1)
        self.conv2 = zeroed(nn.Conv2d(width, width, KERNEL, padding=1))
        self.shortcut = nn.Conv2d(width_in, width, 1) if width_in != width else nn.Identity()
        self.attention = Attention(width, groups, head_width or width) if attends else nn.Identity()

    def forward(self, x: Tensor, shift: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h + shift[:, :, None, None])))
        return self.attention(self.shortcut(x) + h)


class Attention(nn.Module):
    """Every position asks every other; added to what it reads, and starts as the identity."""

    def __init__(self, width: int, groups: int, head_width: int):
        super().__init__()
        self.head_width = head_width
        self.norm = GroupNorm(groups, width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.out = zeroed(nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        rows = self.norm(x).permute(0, 2, 3, 1).flatten(1, 2)  # (b, positions, width), the same memory
        heads = self.queries_keys_values(rows).unflatten(2, (3, -1, self.head_width)).transpose(1, 3)
        found = attend(*heads.unbind(2))  # (b, heads, positions, head_width)
        y = self.out(found.transpose(1, 2).flatten(2))
        return x + y.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)


class EnlargedConv2d(nn.Conv2d):
    """A 3 x 3 convolution of the picture enlarged by two, each pixel repeated, which is never made.

    The repeated pixels meet sums of taps, four for each pixel that comes out and not nine: a transposed convolution.
    """

    sums: Tensor

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, KERNEL, padding=1)
        self.register_buffer("sums", torch.tensor(ENLARGED), persistent=False)  # fetched to a device once

    def forward(self, input: Tensor) -> Tensor:
        kernel = torch.einsum("ku,oiuv,lv->iokl", self.sums, self.weight, self.sums)
        kernel = kernel.contiguous(memory_format=torch.channels_last)
        return F.conv_transpose2d(input, kernel, self.bias, stride=2, padding=1)
