"""A small U-Net for CPUs, the default denoiser, which first folds pixels into channels.

On a CPU, convolutions at full resolution cost the most. Space-to-depth by two makes the finest level a quarter as large.
One further halving makes the coarse level so cheap that it has most of the width. There, a layer across all positions
connects distant parts of the image, for which the convolutions are too few (measured in docs/log.md).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from kakusan.errors import InputError
from kakusan.nets.base import ImageDenoiser
from kakusan.nets.folding import Folding
from kakusan.nets.layers import GroupNorm, Modulation, channels_last, modulate, zeroed
from kakusan.nets.time import TimeKind

HALVINGS = 1  # number of levels below the finest
GROUPS = 8  # groups of every normalization


class UNet(ImageDenoiser):
    """U-Net denoiser, from z_t (b, C, H, W) and t (b,) to a prediction, and with `gate` also v in [0, 1].

    Both outputs have the shape of z_t, and any height and width is allowed. The image is padded to a multiple of four,
    and the padding is removed from the prediction.

    Args:
        channels: C.
        size: (H, W).
        num_steps: T, for the time table.
        fold: Side in pixels of the patches that become channels before the finest level.
        refine: Channels of two convolutions on the unfolded image, which remove grid artifacts; 0 for none.
        checkpointing: Recompute the blocks of the coarse level for the gradient, which saves memory.
        width: Channels at the finest level, a multiple of 8; multiples of 16 are fastest on a CPU with AVX-512.
        inner_width: Channels at the coarse level, a multiple of 8.
        blocks: Number of residual blocks at the coarse level.
        time: "sinusoidal" features of t, or a "table" with one row per t (M12).
        gate: Also return the learned variance's v (M7).
        num_classes: Number of classes if class-conditional, otherwise 0.
        time_width: Width of the embedding of t and cond.
        cond_dim: Number of features if conditional on features, otherwise 0.
    """

    settings = ("width", "inner_width", "blocks", "fold", "refine", "checkpointing")
    # Muon leaves out the whole-image layers, because orthogonalizing such large matrices costs more than it gains.
    not_hidden = (*ImageDenoiser.not_hidden, "wholes", "refine")

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        num_steps: int,
        width: int = 32,
        inner_width: int = 64,
        blocks: int = 3,
        time: TimeKind = "sinusoidal",
        gate: bool = False,
        num_classes: int = 0,
        time_width: int = 128,
        cond_dim: int = 0,
        fold: int = 2,
        refine: int = 0,
        checkpointing: bool = False,
    ):
        super().__init__(time, time_width, num_steps, num_classes, cond_dim)
        if width < GROUPS or inner_width < GROUPS or width % GROUPS or inner_width % GROUPS or blocks < 1:
            raise InputError(
                f"widths must be multiples of {GROUPS} and blocks at least 1, got {width}, {inner_width} and {blocks}"
            )
        self.folding = Folding(channels, size, fold, fold * 2**HALVINGS, gate)
        self.first = nn.Conv2d(self.folding.channels_in, width, 3, padding=1)
        self.down = nn.Conv2d(width, inner_width, 2, stride=2)
        self.coarse = nn.ModuleList([ResidualBlock(inner_width, time_width) for _ in range(blocks)])
        positions = math.prod(self.folding.grid) // 4**HALVINGS
        if inner_width // GROUPS * positions < 2:
            raise InputError(
                f"images of {size[0]} x {size[1]} need an inner width of at least {2 * GROUPS}, got {inner_width}"
            )
        self.mixers = nn.ModuleList([PositionMixer(inner_width, positions) for _ in range(blocks)])
        self.wholes = nn.ModuleList([WholeImage(inner_width, positions) for _ in range(blocks)])
        self.up = nn.Conv2d(inner_width, 4 * width, 1)
        self.merge = nn.Conv2d(2 * width, width, 1)
        self.fine = ResidualBlock(width, time_width)
        self.last_norm = GroupNorm(GROUPS, width)
        self.last = zeroed(nn.Conv2d(width, self.folding.channels_out, 3, padding=1))
        self.checkpointing = checkpointing
        if refine:
            self.refine = Refine(channels, channels * (2 if gate else 1), refine, time_width)
        else:
            self.refine = None
        channels_last(self)

    def forward(self, z_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Return the prediction for z_t at t."""
        e = self.embed(t, cond)
        h = self.first(self.folding.into(z_t).contiguous(memory_format=torch.channels_last))
        inner = self.down(h)
        for block, mixer, whole in zip(self.coarse, self.mixers, self.wholes):
            if self.checkpointing and torch.is_grad_enabled():
                inner = checkpoint(
                    lambda h, e, *parts: parts[2](parts[1](parts[0](h, e))),
                    inner,
                    e,
                    block,
                    mixer,
                    whole,
                    use_reentrant=False,
                )
            else:
                inner = whole(mixer(block(inner, e)))
        h = self.merge(torch.cat([F.pixel_shuffle(self.up(inner), 2), h], dim=1))
        y = self.folding.unfold(self.last(F.silu(self.last_norm(self.fine(h, e)))))
        return self.folding.split(y if self.refine is None else self.refine(y, z_t, e))


class Refine(nn.Module):
    """Residual block of two 3 x 3 convolutions on the unfolded prediction and z_t, initialized as the identity.

    The last layer of a folded network has separate filters for the pixels of a patch. After a short training these still
    differ and leave a grid. Here one filter computes every pixel.
    """

    def __init__(self, channels: int, channels_out: int, width: int, time_width: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels + channels_out, width, 3, padding=1)
        self.modulation = Modulation(time_width, 2 * width)
        self.conv2 = zeroed(nn.Conv2d(width, channels_out, 3, padding=1))

    def forward(self, y: Tensor, z_t: Tensor, e: Tensor) -> Tensor:
        """Map the prediction y (b, channels_out, H, W) given z_t and the embedding e (b, time_width)."""
        scale, shift = self.modulation(e)[:, :, None, None].chunk(2, dim=1)
        h = self.conv1(torch.cat([y, z_t], dim=1).contiguous(memory_format=torch.channels_last))
        return y + self.conv2(F.silu(modulate(h, scale, shift)))


class ResidualBlock(nn.Module):
    """Residual block of two 3 x 3 convolutions with modulation by t between them, initialized as the identity."""

    def __init__(self, width: int, time_width: int):
        super().__init__()
        self.norm1, self.norm2 = GroupNorm(GROUPS, width), GroupNorm(GROUPS, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = zeroed(nn.Conv2d(width, width, 3, padding=1))
        self.modulation = Modulation(time_width, 2 * width)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """Map x (b, width, rows, columns) given the embedding e (b, time_width)."""
        scale, shift = self.modulation(e)[:, :, None, None].chunk(2, dim=1)
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        return x + self.conv2(F.silu(modulate(h, scale, shift)))


class PositionMixer(nn.Module):
    """Residual two-layer perceptron across all positions, equal for all channels, initialized as the identity.

    Source: Tolstikhin et al. 2021, the token mixing of the MLP-Mixer.
    """

    def __init__(self, width: int, positions: int, hidden: int = 128):
        super().__init__()
        self.norm = GroupNorm(GROUPS, width)
        self.into = nn.Linear(positions, hidden)
        self.back = zeroed(nn.Linear(hidden, positions))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (b, width, rows, columns)."""
        mixed = self.back(F.silu(self.into(self.norm(x).flatten(2))))
        return x + mixed.view_as(x)


class WholeImage(nn.Module):
    """Residual perceptron on a few channels of all positions, the only layer whose input is the whole image.

    It takes one multiplication per weight and image, few compared with convolutions. It is initialized as the identity.
    """

    def __init__(self, width: int, positions: int, channels: int = 8, hidden: int = 256):
        super().__init__()
        self.norm = GroupNorm(GROUPS, width)
        self.squeeze = nn.Conv2d(width, channels, 1)
        self.into = nn.Linear(channels * positions, hidden)
        self.back = nn.Linear(hidden, channels * positions)
        self.expand = zeroed(nn.Conv2d(channels, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (b, width, rows, columns)."""
        h = self.squeeze(self.norm(x))
        return x + self.expand(self.back(F.silu(self.into(h.flatten(1)))).view_as(h))
