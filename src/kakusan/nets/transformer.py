"""A transformer on patches, for GPUs, in which t scales, shifts and gates every block.

torch compiles it as one graph. Under bfloat16 autocast the residual stream and its normalization stay float32, and
queries and keys are normalized in bfloat16.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kakusan.errors import InputError
from kakusan.nets.base import ImageDenoiser
from kakusan.nets.folding import Folding
from kakusan.nets.layers import Modulation, attend, zeroed
from kakusan.nets.time import TimeKind

HEAD_WIDTH = 64
MULTIPLE = 32  # hidden widths of perceptrons are multiples of this, for the matrix units of a GPU


class Transformer(ImageDenoiser):
    """Transformer denoiser, from z_t (b, C, H, W) and t (b,) to a prediction, and with `gate` also v in [0, 1].

    Both outputs have the shape of z_t, and any height and width is allowed. It suits large batches on a GPU; on a CPU
    `UNet` learns more per minute. Sources: Vaswani et al. 2017; Peebles and Xie 2023 for scale, shift and gate from t,
    initialized to zero; Henry et al. 2020 for normalized queries and keys; Shazeer 2020 for the gated perceptron.

    Args:
        channels: C.
        size: (H, W).
        num_steps: T, for the time table.
        width: Channels of a patch; up to 64, or a multiple of 64.
        blocks: Number of blocks.
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
        width: int = 128,
        blocks: int = 4,
        patch: int = 4,
        time: TimeKind = "sinusoidal",
        gate: bool = False,
        num_classes: int = 0,
        time_width: int = 128,
        cond_dim: int = 0,
    ):
        super().__init__(time, time_width, num_steps, num_classes, cond_dim)
        if width > HEAD_WIDTH and width % HEAD_WIDTH:
            raise InputError(
                f"the width of a transformer must be up to {HEAD_WIDTH} or a multiple of {HEAD_WIDTH}, got {width}"
            )
        self.folding = Folding(channels, size, patch, gate=gate)
        rows, columns = self.folding.grid
        self.first = nn.Linear(self.folding.channels_in, width)
        self.positions = nn.Parameter(0.02 * torch.randn(rows * columns, width))
        self.blocks = nn.ModuleList([Block(width, time_width) for _ in range(blocks)])
        self.norm = nn.RMSNorm(width, elementwise_affine=False)
        self.modulation = zeroed(Modulation(time_width, 2 * width))
        self.last = zeroed(nn.Linear(width, self.folding.channels_out))

    def forward(self, z_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Return the prediction for z_t at t."""
        e = self.embed(t, cond)
        patches = self.folding.into(z_t).flatten(2).transpose(1, 2)
        h = self.first(patches) + self.positions
        for block in self.blocks:
            h = block(h, e)
        scale, shift = self.modulation(e)[:, None].chunk(2, dim=-1)
        y = self.last(torch.addcmul(shift, self.norm(h), 1 + scale))
        return self.folding.back(y.transpose(1, 2).unflatten(2, self.folding.grid))


class Block(nn.Module):
    """Residual attention and a residual gated perceptron, modulated and gated by t, initialized as the identity."""

    def __init__(self, width: int, time_width: int):
        super().__init__()
        hidden = -(-width * 8 // 3 // MULTIPLE) * MULTIPLE
        self.norm = nn.RMSNorm(width, elementwise_affine=False)
        self.modulation = zeroed(Modulation(time_width, 6 * width))
        self.attention = Attention(width)
        self.widen = nn.Linear(width, 2 * hidden)
        self.narrow = nn.Linear(hidden, width)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """Map x (b, patches, width) given the embedding e (b, time_width)."""
        scale1, shift1, gate1, scale2, shift2, gate2 = self.modulation(e)[:, None].chunk(6, dim=-1)
        x = x + gate1 * self.attention(torch.addcmul(shift1, self.norm(x), 1 + scale1))
        value, switch = self.widen(torch.addcmul(shift2, self.norm(x), 1 + scale2)).chunk(2, dim=-1)
        return x + gate2 * self.narrow(value * F.silu(switch))


class Attention(nn.Module):
    """Softmax attention between patches; queries and keys are normalized, which bounds the logits."""

    def __init__(self, width: int):
        super().__init__()
        self.heads = max(1, width // HEAD_WIDTH)
        self.ask = nn.Linear(width, 3 * width, bias=False)
        self.norm = nn.RMSNorm(width // self.heads, elementwise_affine=False)
        self.answer = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (b, patches, width)."""
        query, key, value = self.ask(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = attend(self.norm(query), self.norm(key), value)
        return self.answer(y.transpose(1, 2).flatten(2))
