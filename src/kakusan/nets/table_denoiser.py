"""A residual perceptron as a denoiser of the rows of a table."""

from __future__ import annotations

from torch import Tensor, nn

from kakusan.nets.base import ImageDenoiser
from kakusan.nets.cosine import Block
from kakusan.nets.layers import Modulation, zeroed
from kakusan.nets.time import TimeKind


class TableNet(ImageDenoiser):
    """Denoiser of rows, from z_t (b, D) and t (b,) to a prediction, and with `gate` also v in [0, 1], each (b, D).

    Args:
        channels: Number D of model values of a row.
        size: Unused, because rows have no further axes.
        num_steps: T, for the time table.
        width: Units of every layer.
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
        size: tuple[int, ...] = (),
        num_steps: int = 1000,
        width: int = 256,
        blocks: int = 3,
        time: TimeKind = "sinusoidal",
        gate: bool = False,
        num_classes: int = 0,
        time_width: int = 128,
        cond_dim: int = 0,
    ):
        super().__init__(time, time_width, num_steps, num_classes, cond_dim)
        self.gate = gate
        self.gain = zeroed(Modulation(time_width, channels))
        self.first = nn.Linear(channels, width)
        self.blocks = nn.ModuleList([Block(width, time_width) for _ in range(blocks)])
        self.norm = nn.LayerNorm(width)
        self.last = zeroed(nn.Linear(width, channels * (2 if gate else 1)))

    def forward(self, z_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Return the prediction for z_t at t."""
        e = self.embed(t, cond)
        h = self.first(z_t)
        for block in self.blocks:
            h = block(h, e)
        out = self.last(self.norm(h))
        if not self.gate:
            return out + self.gain(e) * z_t
        prediction, v = out.chunk(2, dim=1)
        return prediction + self.gain(e) * z_t, v.sigmoid()
