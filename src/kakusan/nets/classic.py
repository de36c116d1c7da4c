"""The U-Net of the DDPM paper, made faster on a CPU without changing its results.

Images stay in channels-last memory, where convolutions with few channels are fastest and attention needs no copy. The
convolution of an image enlarged by two is computed from the small image. The shifts of all residual blocks come from
one matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kakusan.errors import InputError
from kakusan.nets.base import ImageDenoiser
from kakusan.nets.folding import Folding
from kakusan.nets.layers import GroupNorm, Modulation, attend, channels_last, zeroed
from kakusan.nets.time import TimeKind

KERNEL = 3
# Row k of a transposed convolution's 4-tap kernel is a sum of rows of the 3-tap kernel on the enlarged image. Each row of
# the small image occurs twice in the enlarged one, and taps on the same row are added.
ENLARGED = ((0.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 0.0), (1.0, 0.0, 0.0))


class ClassicUNet(ImageDenoiser):
    """U-Net of the DDPM paper, from z_t (b, C, H, W) and t (b,) to a prediction, and with `gate` also v in [0, 1].

    Both outputs have the shape of z_t, and any height and width is allowed. It serves comparisons with published models;
    `UNet` learns more per minute on a CPU. Source: Ho, Jain and Abbeel 2020, appendix B. The paper has attention at
    16 x 16; here it is an option of each level.

    Args:
        channels: C.
        size: (H, W).
        num_steps: T, for the time table.
        widths: Channels of each level, the finest first; each further level halves height and width.
        blocks: Residual blocks per level on the downward path; the upward path has one more.
        attention: Whether each level has attention after its blocks; default: no level has.
        middle_attention: Whether the middle has attention.
        head_width: Channels of an attention head; None for one head.
        groups: Groups of every normalization, a divisor of each width. With one channel per group a block ignores t,
            because normalization then removes shifts that are equal at all positions.
        time: "sinusoidal" features of t, or a "table" with one row per t (M12).
        gate: Also return the learned variance's v (M7).
        num_classes: Number of classes if class-conditional, otherwise 0.
        time_features: Number of sinusoids of t; default: widths[0].
        cond_dim: Number of features if conditional on features, otherwise 0.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        num_steps: int,
        widths: Sequence[int] = (32, 64, 128),
        blocks: int = 2,
        attention: Sequence[bool] | None = None,
        middle_attention: bool = True,
        head_width: int | None = None,
        groups: int = 4,
        time: TimeKind = "sinusoidal",
        gate: bool = False,
        num_classes: int = 0,
        time_features: int | None = None,
        cond_dim: int = 0,
    ):
        attention = [False] * len(widths) if attention is None else list(attention)
        if not widths or blocks < 1 or len(attention) != len(widths):
            raise InputError(
                "expected one or more widths, one `attention` for each of them, and at least 1 block, "
                f"got {widths}, {attention} and {blocks}"
            )
        if any(width % groups or width % (head_width or width) for width in widths):
            raise InputError(f"widths must be multiples of groups={groups} and head_width={head_width}, got {widths}")
        time_width = 4 * widths[0]
        super().__init__(time, time_width, num_steps, num_classes, cond_dim, time_features or widths[0])
        self.folding = Folding(channels, size, fold=1, multiple=2 ** (len(widths) - 1), gate=gate)
        positions = self.folding.grid[0] * self.folding.grid[1] // 4 ** (len(widths) - 1)
        if widths[-1] // groups * positions < 2:  # a single number has no std to divide by
            raise InputError(f"images of {size} need a coarsest width of at least {2 * groups}, got {widths[-1]}")
        self.first = nn.Conv2d(channels, widths[0], KERNEL, padding=1)

        def block(width_in: int, width: int, attends: bool) -> Block:
            return Block(width_in, width, groups, head_width, attends)

        kept = [widths[0]]  # widths of the skip connections
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
        self.blocks, self.shift_widths = blocks, [part.width for part in (*down, *middle, *up)]
        self.norm = GroupNorm(groups, widths[0])
        self.last = zeroed(nn.Conv2d(widths[0], self.folding.channels_out, KERNEL, padding=1))
        self.shifts = Modulation(time_width, sum(self.shift_widths))
        channels_last(self)

    @classmethod
    def _settings(cls, config: Any) -> dict[str, Any]:
        return {"widths": (config.width, config.inner_width, config.inner_width), "blocks": config.blocks}

    def forward(self, z_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Return the prediction for z_t at t."""
        shifts = iter(self.shifts(self.embed(t, cond)).split(self.shift_widths, dim=1))
        # With one channel both layouts are the same memory, and the convolution would choose the other one.
        h = self.first(self.folding.into(z_t)).contiguous(memory_format=torch.channels_last)
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


class Block(nn.Module):
    """Residual block of two 3 x 3 convolutions with a shift by t between them, then attention if `attends`."""

    def __init__(self, width_in: int, width: int, groups: int, head_width: int | None, attends: bool):
        super().__init__()
        self.width = width
        self.norm1, self.norm2 = GroupNorm(groups, width_in), GroupNorm(groups, width)
        self.conv1 = nn.Conv2d(width_in, width, KERNEL, padding=1)
        self.conv2 = zeroed(nn.Conv2d(width, width, KERNEL, padding=1))
        self.shortcut = nn.Conv2d(width_in, width, 1) if width_in != width else nn.Identity()
        self.attention = Attention(width, groups, head_width or width) if attends else nn.Identity()

    def forward(self, x: Tensor, shift: Tensor) -> Tensor:
        """Map x (b, width_in, rows, columns) given the shift (b, width)."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h + shift[:, :, None, None])))
        return self.attention(self.shortcut(x) + h)


class Attention(nn.Module):
    """Residual self-attention between all positions, initialized as the identity."""

    def __init__(self, width: int, groups: int, head_width: int):
        super().__init__()
        self.head_width = head_width
        self.norm = GroupNorm(groups, width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.out = zeroed(nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (b, width, rows, columns)."""
        rows = self.norm(x).permute(0, 2, 3, 1).flatten(1, 2)  # (b, positions, width), without a copy
        heads = self.queries_keys_values(rows).unflatten(2, (3, -1, self.head_width)).transpose(1, 3)
        found = attend(*heads.unbind(2))  # (b, heads, positions, head_width)
        y = self.out(found.transpose(1, 2).flatten(2))
        return x + y.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)


class EnlargedConv2d(nn.Conv2d):
    """A 3 x 3 convolution of the image with each pixel repeated to 2 x 2, computed without the enlarged image.

    Equal pixels are multiplied by sums of taps, four instead of nine per output pixel. This is a transposed convolution.
    """

    sums: Tensor

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, KERNEL, padding=1)
        self.register_buffer("sums", torch.tensor(ENLARGED), persistent=False)  # moved to a device once

    def forward(self, input: Tensor) -> Tensor:
        """Map (b, in_channels, rows, columns) to (b, out_channels, 2 rows, 2 columns)."""
        kernel = torch.einsum("ku,oiuv,lv->iokl", self.sums, self.weight, self.sums)
        kernel = kernel.contiguous(memory_format=torch.channels_last)
        return F.conv_transpose2d(input, kernel, self.bias, stride=2, padding=1)
