"""An isotropic ConvNeXt: depthwise convolutions between patches and a perceptron per patch, with one constant width."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from kakusan.nets.base import ImageDenoiser
from kakusan.nets.folding import Folding
from kakusan.nets.layers import Modulation, channels_last, modulate, zeroed
from kakusan.nets.time import TimeKind

KERNEL = 7
EXPANSION = 4


class ConvNeXt(ImageDenoiser):
    """ConvNeXt denoiser, from z_t (b, C, H, W) and t (b,) to a prediction, and with `gate` also v in [0, 1].

    Both outputs have the shape of z_t, and any height and width is allowed. This convolutional baseline without levels
    is kept for comparisons and for runs of version 0.3. On a CPU, `UNet` learned more per minute. Source: Liu et al.
    2022, "A ConvNet for the 2020s", isotropic form.

    Args:
        channels: C.
        size: (H, W).
        num_steps: T, for the time table.
        width: Channels of every layer; 96 suits 28 x 28 images.
        blocks: Number of residual blocks.
        patch: Side of a patch in pixels.
        time: "sinusoidal" features of t, or a "table" with one row per t (M12).
        gate: Also return the learned variance's v (M7).
        num_classes: Number of classes if class-conditional, otherwise 0.
        time_width: Width of the embedding of t and cond.
        cond_dim: Number of features if conditional on features, otherwise 0.
    """

    settings = ("width", "blocks", "patch")

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        num_steps: int,
        width: int = 96,
        blocks: int = 6,
        patch: int = 4,
        time: TimeKind = "sinusoidal",
        gate: bool = False,
        num_classes: int = 0,
        time_width: int = 128,
        cond_dim: int = 0,
    ):
        super().__init__(time, time_width, num_steps, num_classes, cond_dim)
        self.folding = Folding(channels, size, patch, gate=gate)
        self.first = nn.Linear(self.folding.channels_in, width)
        self.blocks = nn.ModuleList([Block(width, time_width) for _ in range(blocks)])
        self.norm = nn.LayerNorm(width)
        self.last = zeroed(nn.Linear(width, self.folding.channels_out))
        channels_last(self)

    def forward(self, z_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Return the prediction for z_t at t."""
        e = self.embed(t, cond)
        h = self.first(self.folding.into(z_t).permute(0, 2, 3, 1))
        for block in self.blocks:
            h = block(h, e)
        return self.folding.back(self.last(self.norm(h)).permute(0, 3, 1, 2))


class Block(nn.Module):
    """Residual block that mixes positions, then channels, and is initialized as the identity."""

    def __init__(self, width: int, time_width: int):
        super().__init__()
        self.across = nn.Conv2d(width, width, KERNEL, padding=KERNEL // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.modulation = Modulation(time_width, 2 * width)
        self.widen = nn.Linear(width, EXPANSION * width)
        self.narrow = zeroed(nn.Linear(EXPANSION * width, width))

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """Map x (b, rows, columns, width) given the embedding e (b, time_width)."""
        scale, shift = self.modulation(e)[:, None, None].chunk(2, dim=-1)
        h = self.norm(self.across(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        return x + self.narrow(F.gelu(self.widen(modulate(h, scale, shift))))
