"""How a network is told the step t: a table of vectors, or sinusoids of t (S39, S40, M12)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TimeKind = Literal["sinusoidal", "table"]
SPREAD = (
    0.3  # of a cluster's row at first: of 1 the bound is 0.1 bits/dim worse after a minute, of 0.15 samples are worse
)


def time_network(kind: TimeKind, width: int, depth: int, clusters: int = 0, features: int = 64) -> nn.Module:
    """t (b,) -> (b, width): "sinusoidal" features of t, or a "table" with a row for each t in 0..depth (M12).

    With clusters (t, k) -> (b, width), k int64 (b,) below their number.
    """
    time = SinusoidalTime(width, features) if kind == "sinusoidal" else TableTime(width, depth)
    return TimeAndCluster(time, width, clusters) if clusters else time


def sinusoids(t: Tensor, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """e[2i] = sin(t w_i), e[2i+1] = cos(t w_i), w_i = 10000^(-2i/width); shape (b, width), squared norm width / 2.

    Smooth in t, and inner products depend on t - s alone. Source: Vaswani et al. 2017, section 3.5.
    """
    frequencies = 10_000.0 ** (-torch.arange(0, width, 2, device=t.device, dtype=dtype) / width)
    angles = t.to(dtype)[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


class SinusoidalTime(nn.Module):
    """t (b,) -> (b, width): sinusoids, then a small network."""

    def __init__(self, width: int, features: int = 64):
        super().__init__()
        self.first, self.second = nn.Linear(features, width), nn.Linear(width, width)

    def forward(self, t: Tensor) -> Tensor:
        weight = self.first.weight
        return F.silu(self.second(F.silu(self.first(sinusoids(t, weight.shape[1], weight.dtype)))))


class TableTime(nn.Module):
    """t (b,) in 0..depth -> (b, width): one learned row for each t.

    Exactly what a one-hot label through a linear layer computes: it selects a column of the weights. Nothing is
    shared between neighbouring t, and a row learns only when its t is drawn (M12).
    """

    def __init__(self, width: int, depth: int):
        super().__init__()
        self.table = nn.Embedding(depth + 1, width)

    def forward(self, t: Tensor) -> Tensor:
        return self.table(t)


class TimeAndCluster(nn.Module):
    """(t (b,), k (b,)) -> (b, width): what is said of t, and one learned row for each cluster k."""

    def __init__(self, time: SinusoidalTime | TableTime, width: int, clusters: int):
        super().__init__()
        self.time, self.table = time, nn.Embedding(clusters, width)
        nn.init.normal_(self.table.weight, std=SPREAD)

    def forward(self, t: Tensor, k: Tensor) -> Tensor:
        return self.time(t) + self.table(k)
