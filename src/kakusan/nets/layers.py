"""What the networks of a denoiser have in common: layers that t moves or that start at zero, norms, attention, hidden matrices."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


class Modulation(nn.Linear):
    """From the time's features to scales, shifts and gates."""


class GroupNorm(nn.GroupNorm):
    """Of bfloat16 numbers, which autocast brings, in its weights' precision; on a GPU autocast does that itself.

    torch's own takes bfloat16 numbers one at a time on a CPU, which costs more than the convolutions around it.
    """

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.to(self.weight.dtype) if input.dtype == torch.bfloat16 else input)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention of each head, all (b, heads, positions, width): softmax(query key^T / sqrt(width)) value."""
    if value.device.type == "cpu" and value.dtype == torch.bfloat16:
        # torch's kernel for it takes up to twelve times as long for gradients there as that for float32
        with torch.autocast("cpu", enabled=False):
            return F.scaled_dot_product_attention(query.float(), key.float(), value.float()).to(value.dtype)
    return F.scaled_dot_product_attention(query, key, value)


def zeroed(layer: Layer) -> Layer:
    """The layer, its weights set to zero: a residual block that ends in it starts as the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def hidden_weights(*parts: nn.Module) -> list[Tensor]:
    """Weights of the layers in these parts that an orthogonalising optimiser is for.

    Those are matrices between hidden layers: no Modulation, and no depthwise convolution, whose rows do not meet.
    """
    layers = [layer for part in parts for layer in part.modules()]
    return [
        layer.weight for layer in layers if type(layer) is nn.Linear or (type(layer) is nn.Conv2d and layer.groups == 1)
    ]
