"""Multi-layer perceptrons between shapes: encoders and decoders as in the study notes (S27), and deeper ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kakusan.nets.base import check_classes

Activation = Literal["relu", "tanh", "silu"]
ACTIVATIONS: dict[Activation, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU}


class GaussianMLP(nn.Module):
    """Perceptron with two linear heads: (b, *in_shape) -> (mean, log_var), each (b, *out_shape).

    With `num_classes` it is class-conditional: called with cond, int64 (b,), whose one-hot vector joins the input.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        hidden: Sequence[int],
        out_shape: Sequence[int],
        activation: Activation = "relu",
        residual: bool = False,
        num_classes: int = 0,
    ):
        super().__init__()
        self.out_shape, self.num_classes = tuple(out_shape), num_classes
        self.body = _body(math.prod(in_shape) + num_classes, hidden, activation, residual)
        self.mean = nn.Linear(hidden[-1], math.prod(out_shape))
        self.log_var = nn.Linear(hidden[-1], math.prod(out_shape))

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute mean and log-variance."""
        h = self.body(joined(x, cond, self.num_classes))
        return self.mean(h).unflatten(1, self.out_shape), self.log_var(h).unflatten(1, self.out_shape)


class MLP(nn.Module):
    """Perceptron (b, *in_shape) -> (b, *out_shape), with `sigmoid` into [0, 1]; `num_classes` as in `GaussianMLP`."""

    def __init__(
        self,
        in_shape: Sequence[int],
        hidden: Sequence[int],
        out_shape: Sequence[int],
        sigmoid: bool = False,
        activation: Activation = "relu",
        residual: bool = False,
        num_classes: int = 0,
    ):
        super().__init__()
        self.out_shape, self.sigmoid, self.num_classes = tuple(out_shape), sigmoid, num_classes
        self.body = _body(math.prod(in_shape) + num_classes, hidden, activation, residual)
        self.out = nn.Linear(hidden[-1], math.prod(out_shape))

    def forward(self, z: Tensor, cond: Tensor | None = None) -> Tensor:
        """Compute the output."""
        y = self.out(self.body(joined(z, cond, self.num_classes))).unflatten(1, self.out_shape)
        return y.sigmoid() if self.sigmoid else y


class Residual(nn.Module):
    """Residual connection, h + layer(h)."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, h: Tensor) -> Tensor:
        """Add layer(h)."""
        return h + self.layer(h)


def joined(x: Tensor, cond: Tensor | None, num_classes: int) -> Tensor:
    """The flattened input, joined by the one-hot class; InputError if cond does not fit this network."""
    check_classes(cond, len(x), num_classes)
    return x.flatten(1) if cond is None else torch.cat([x.flatten(1), F.one_hot(cond, num_classes).to(x.dtype)], 1)


def _body(size: int, hidden: Sequence[int], activation: Activation, residual: bool) -> nn.Sequential:
    """Linear layers, each with its activation; with `residual`, a layer as wide as its input is added to it."""
    layers: list[nn.Module] = []
    for width in hidden:
        layer = [nn.Linear(size, width), ACTIVATIONS[activation]()]
        layers += [Residual(nn.Sequential(*layer))] if residual and width == size else layer
        size = width
    return nn.Sequential(*layers)
