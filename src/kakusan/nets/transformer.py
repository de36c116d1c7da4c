"""Attention between patches, where t scales, shifts and gates every block: little on a CPU, most of a GPU.

Nothing here asks a tensor for a number, so that it compiles as one graph. Under bfloat16 autocast the stream between the
blocks, and what normalises it, stay float32; queries and keys are normalised in bfloat16.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kakusan.errors import InputError
from kakusan.nets.folding import Folding
from kakusan.nets.layers import Modulation, attend, hidden_weights, zeroed
from kakusan.nets.time import TimeKind, time_network

HEAD = 64  # channels of a head
MULTIPLE = 32  # of the perceptrons' hidden width, for the matrix units of a GPU


class Transformer(nn.Module):
    """(z_t (b, C, H, W), t (b,)) -> prediction of z_t's shape, and with `gate` also v in [0, 1] of that shape.

    Any height and width. Sources: Vaswani et al. 2017; Peebles and Xie 2023 for scale, shift and gate from t, all of
    them zero at the start; Henry et al. 2020 for normalised queries and keys; Shazeer 2020 for the gated perceptron.

    Args:
        channels: C.
        size: (H, W).
        depth: T, for the time table.
        width: Channels of a patch; up to 64, or a multiple of it.
        blocks: How many.
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
        width: int = 128,
        blocks: int = 4,
        patch: int = 4,
        time: TimeKind = "sinusoidal",
        gate: bool = False,
        clusters: int = 0,
        time_width: int = 128,
    ):
        super().__init__()
        if width > HEAD and width % HEAD:
            raise InputError(f"the width of a transformer must be up to {HEAD} or a multiple of {HEAD}, got {width}")
        self.folding = Folding(channels, size, patch, gate=gate)
        rows, columns = self.folding.grid
        self.time = time_network(time, time_width, depth, clusters)
        self.first = nn.Linear(self.folding.channels_in, width)
        self.positions = nn.Parameter(0.02 * torch.randn(rows * columns, width))
        self.blocks = nn.ModuleList([Block(width, time_width) for _ in range(blocks)])
        self.norm = nn.RMSNorm(width, elementwise_affine=False)
        self.modulation = zeroed(Modulation(time_width, 2 * width))
        self.last = zeroed(nn.Linear(width, self.folding.channels_out))

    def forward(self, z: Tensor, t: Tensor, *cluster: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        e = self.time(t, *cluster)
        patches = self.folding.into(z).flatten(2).transpose(1, 2)
        h = self.first(patches) + self.positions
        for block in self.blocks:
            h = block(h, e)
        scale, shift = self.modulation(e)[:, None].chunk(2, dim=-1)
        y = self.last(torch.addcmul(shift, self.norm(h), 1 + scale))
        return self.folding.back(y.transpose(1, 2).unflatten(2, self.folding.grid))

    def hidden_matrices(self) -> list[Tensor]:
        """Weights between hidden layers: those that an orthogonalising optimiser is for."""
        return hidden_weights(self.blocks)


class Block(nn.Module):
    """Attention, then a gated perceptron, each a residual that t scales, shifts and gates; starts as the identity."""

    def __init__(self, width: int, time_width: int):
        super().__init__()
        hidden = -(-width * 8 // 3 // MULTIPLE) * MULTIPLE
        self.norm = nn.RMSNorm(width, elementwise_affine=False)
        self.modulation = zeroed(Modulation(time_width, 6 * width))
        self.attention = Attention(width)
        self.widen = nn.Linear(width, 2 * hidden)
        self.narrow = nn.Linear(hidden, width)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """x (b, patches, width)."""
        scale1, shift1, gate1, scale2, shift2, gate2 = self.modulation(e)[:, None].chunk(6, dim=-1)
        x = x + gate1 * self.attention(torch.addcmul(shift1, self.norm(x), 1 + scale1))
        value, switch = self.widen(torch.addcmul(shift2, self.norm(x), 1 + scale2)).chunk(2, dim=-1)
        return x + gate2 * self.narrow(value * F.silu(switch))


class Attention(nn.Module):
    """Softmax attention between patches; queries and keys have one length, so that no logit runs away."""

    def __init__(self, width: int):
        super().__init__()
        self.heads = max(1, width // HEAD)
        self.ask = nn.Linear(width, 3 * width, bias=False)
        self.norm = nn.RMSNorm(width // self.heads, elementwise_affine=False)
        self.answer = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.ask(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = attend(self.norm(query), self.norm(key), value)
        return self.answer(y.transpose(1, 2).flatten(2))
