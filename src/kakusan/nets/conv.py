"""Convolutional encoders and decoders between images of any size and latents, with residual blocks at several levels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from kakusan.nets.class_shift import ClassShift
from kakusan.nets.layers import zeroed

COARSEST = 8  # pixels; images are halved until their longer side is at most this
MOST_WIDER = 4  # largest ratio of a level's width to `width`
FINEST_SHARE = 2  # the level of single pixels is narrower by this factor, because it costs the most


def sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Height and width of each level, the finest first; each halves the sides of the one before, rounded up."""
    found = [(height, width)]
    while max(found[-1]) > COARSEST:
        found.append((-(-found[-1][0] // 2), -(-found[-1][1] // 2)))
    return found


class Block(nn.Module):
    """Residual block of two convolutions, initialized as the identity."""

    def __init__(self, width: int):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = zeroed(nn.Conv2d(width, width, 3, padding=1))

    def forward(self, h: Tensor) -> Tensor:
        """Map h (b, width, H, W)."""
        return h + self.second(F.silu(self.first(F.silu(h))))


def _widths(levels: int, width: int) -> list[int]:
    return [max(8, width // FINEST_SHARE), *(width * min(2**k, MOST_WIDER) for k in range(levels - 1))][:levels]


class ConvEncoder(nn.Module):
    """Convolutional encoder from images (b, C, H, W) to (mean, log_var), each (b, *out_shape).

    Args:
        in_shape: (C, H, W), with sides of any size.
        out_shape: Shape of the latents: a vector (D,), or maps (channels, rows, columns) of the coarsest level's size.
        width: Channels of the level below the pixels.
        blocks: Residual blocks of each level.
        num_classes: Number of classes if class-conditional, otherwise 0.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        width: int = 32,
        blocks: int = 1,
        num_classes: int = 0,
    ):
        super().__init__()
        self.out_shape = tuple(out_shape)
        self.sizes = sizes(*in_shape[1:])
        wide = _widths(len(self.sizes), width)
        layers: list[nn.Module] = [nn.Conv2d(in_shape[0], wide[0], 3, padding=1)]
        for level, here in enumerate(wide):
            layers += [Block(here) for _ in range(blocks if level else 0)]
            if level + 1 < len(wide):
                layers += [nn.SiLU(), nn.Conv2d(here, wide[level + 1], 3, stride=2, padding=1)]
        self.body = nn.Sequential(*layers, nn.SiLU())
        self.shift = ClassShift(num_classes, (wide[0], 1, 1))
        grid = wide[-1] * math.prod(self.sizes[-1])
        maps = len(self.out_shape) == 3
        self.out = nn.Conv2d(wide[-1], 2 * self.out_shape[0], 1) if maps else nn.Linear(grid, 2 * math.prod(out_shape))

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of the latents."""
        first, *others = self.body
        h = self.shift(first(x), cond)
        for layer in others:
            h = layer(h)
        out = self.out(h if isinstance(self.out, nn.Conv2d) else h.flatten(1))
        mean, log_var = (part.reshape(-1, *self.out_shape) for part in out.chunk(2, dim=1))
        return mean, log_var


class ConvDecoder(nn.Module):
    """Convolutional decoder from latents (b, *in_shape) to (mean, log_var) or one tensor, each (b, C, H, W).

    Args:
        in_shape: Shape of the latents, like out_shape of `ConvEncoder`.
        out_shape: (C, H, W), with sides of any size.
        width: Channels of the level below the pixels.
        blocks: Residual blocks of each level.
        has_log_var: Also return log-variances.
        sigmoid: Map the mean into [0, 1].
        num_classes: Number of classes if class-conditional, otherwise 0.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        width: int = 32,
        blocks: int = 1,
        has_log_var: bool = True,
        sigmoid: bool = False,
        num_classes: int = 0,
    ):
        super().__init__()
        self.sizes = sizes(*out_shape[1:])[::-1]
        wide = _widths(len(self.sizes), width)[::-1]
        self.grid = (wide[0], *self.sizes[0])
        self.has_log_var, self.sigmoid = has_log_var, sigmoid
        maps = len(in_shape) == 3
        self.first = (
            nn.Conv2d(in_shape[0], wide[0], 1) if maps else nn.Linear(math.prod(in_shape), math.prod(self.grid))
        )
        self.shift = ClassShift(num_classes, (wide[0], 1, 1) if maps else self.grid)
        finest = len(wide) - 1
        self.levels = nn.ModuleList(
            nn.Sequential(*(Block(here) for _ in range(1 if level == finest else blocks)))
            for level, here in enumerate(wide)
        )
        self.up = nn.ModuleList(nn.Conv2d(here, above, 3, padding=1) for here, above in itertools.pairwise(wide))
        self.out = nn.Conv2d(wide[-1], out_shape[0] * (2 if has_log_var else 1), 3, padding=1)

    def forward(self, z: Tensor, cond: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Return (mean, log_var), or one tensor without log-variances."""
        h = self.shift(self.first(z).view(-1, *self.grid), cond)
        for level, blocks in enumerate(self.levels):
            if level:
                h = F.interpolate(self.up[level - 1](h), size=self.sizes[level])
            h = blocks(h)
        out = self.out(F.silu(h))
        if not self.has_log_var:
            return out.sigmoid() if self.sigmoid else out
        mean, log_var = out.chunk(2, dim=1)
        return mean.sigmoid() if self.sigmoid else mean, log_var
