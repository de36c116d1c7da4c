"""Multi-layer perceptrons as encoders and decoders: those of the study notes (S27), and deeper ones."""

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
    """Perceptron with two linear heads, from (b, *in_shape) to (mean, log_var), each (b, *out_shape).

    With `num_classes` it is class-conditional. Then it takes cond, int64 (b,), and appends its one-hot vector to the
    input.
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
        """Return mean and log-variance."""
        h = self.body(joined(x, cond, self.num_classes))
        return self.mean(h).unflatten(1, self.out_shape), self.log_var(h).unflatten(1, self.out_shape)


class MLP(nn.Module):
    """Perceptron from (b, *in_shape) to (b, *out_shape); `sigmoid` maps the output into [0, 1].

    `num_classes` is as in `GaussianMLP`.
    """

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
        """Return the output (b, *out_shape)."""
        y = self.out(self.body(joined(z, cond, self.num_classes))).unflatten(1, self.out_shape)
        return y.sigmoid() if self.sigmoid else y


class Residual(nn.Module):
    """Residual connection, h + layer(h)."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, h: Tensor) -> Tensor:
        """Return h + layer(h)."""
        return h + self.layer(h)


def joined(x: Tensor, cond: Tensor | None, num_classes: int) -> Tensor:
    """Flatten the input and append the one-hot class; InputError if cond does not fit this network."""
    check_classes(cond, len(x), num_classes)
    return x.flatten(1) if cond is None else torch.cat([x.flatten(1), F.one_hot(cond, num_classes).to(x.dtype)], 1)


def _body(size: int, hidden: Sequence[int], activation: Activation, residual: bool) -> nn.Sequential:
    """Build linear layers with activations; with `residual`, layers as wide as their input are residual."""
    layers: list[nn.Module] = []
    for width in hidden:
        layer = [nn.Linear(size, width), ACTIVATIONS[activation]()]
        layers += [Residual(nn.Sequential(*layer))] if residual and width == size else layer
        size = width
    return nn.Sequential(*layers)
