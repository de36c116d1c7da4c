"""Embeddings of the step t by sinusoids or a table (S39, S40, M12), and of a condition."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TimeKind = Literal["sinusoidal", "table"]
# Initial std of the row of a class. With 1, the bound is 0.1 bits/dim worse after a minute; with 0.15, samples are worse.
CLASS_STD = 0.3


def time_network(
    kind: TimeKind, width: int, num_steps: int, num_classes: int = 0, cond_dim: int = 0, frequencies: int = 64
) -> nn.Module:
    """Build an embedding from t (b,) to (b, width): "sinusoidal", or a "table" with one row per t in 0..num_steps.

    With num_classes or cond_dim it embeds both t and cond.
    """
    time = SinusoidalTime(width, frequencies) if kind == "sinusoidal" else TableTime(width, num_steps)
    return TimeAndCondition(time, width, num_classes, cond_dim) if num_classes or cond_dim else time


def sinusoids(t: Tensor, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the sinusoids e[2i] = sin(t w_i) and e[2i+1] = cos(t w_i) with w_i = 10000^(-2i/width), (b, width).

    They are smooth in t. Their squared norm is width / 2, and the inner product for t and s depends on t - s alone.
    Source: Vaswani et al. 2017, section 3.5.
    """
    frequencies = 10_000.0 ** (-torch.arange(0, width, 2, device=t.device, dtype=dtype) / width)
    angles = t.to(dtype)[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


class SinusoidalTime(nn.Module):
    """Embedding from t (b,) to (b, width) by sinusoids and a two-layer perceptron."""

    def __init__(self, width: int, frequencies: int = 64):
        super().__init__()
        self.first, self.second = nn.Linear(frequencies, width), nn.Linear(width, width)

    def forward(self, t: Tensor) -> Tensor:
        """Return the embedding of t, (b, width)."""
        weight = self.first.weight
        return F.silu(self.second(F.silu(self.first(sinusoids(t, weight.shape[1], weight.dtype)))))


class TableTime(nn.Module):
    """Embedding from t (b,) in 0..num_steps to (b, width) with one learned row per t.

    It equals a linear layer on one-hot vectors of t. Neighboring t share nothing, and a row is trained only when its t
    is drawn (M12).
    """

    def __init__(self, width: int, num_steps: int):
        super().__init__()
        self.table = nn.Embedding(num_steps + 1, width)

    def forward(self, t: Tensor) -> Tensor:
        """Return the rows of t, (b, width)."""
        return self.table(t)


class TimeAndCondition(nn.Module):
    """Embedding of t (b,) and cond to (b, width): that of t plus a row per class, or plus a linear map of features."""

    def __init__(self, time: SinusoidalTime | TableTime, width: int, num_classes: int, cond_dim: int = 0):
        super().__init__()
        self.time = time
        self.table = nn.Embedding(num_classes, width) if num_classes else nn.Linear(cond_dim, width, bias=False)
        nn.init.normal_(self.table.weight, std=CLASS_STD)

    def forward(self, t: Tensor, cond: Tensor) -> Tensor:
        """Return the embedding of t and cond, (b, width)."""
        return self.time(t) + self.table(cond)
