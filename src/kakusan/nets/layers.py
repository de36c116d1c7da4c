"""Layers that the denoisers share: modulation by t, zero initialization, normalization, attention."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Layer = TypeVar("Layer", nn.Conv1d, nn.Conv2d, nn.Linear)


class Modulation(nn.Linear):
    """Linear map from the embedding of t to scales, shifts and gates."""


def modulate(h: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return h (1 + scale) + shift."""
    return torch.addcmul(h + shift, h, scale)


class GroupNorm(nn.GroupNorm):
    """Group normalization that converts bfloat16 inputs to the precision of its weights, as autocast does on a GPU.

    On a CPU, torch's own implementation processes bfloat16 values one at a time, which takes longer than the adjacent
    convolutions.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalized input, in the dtype of the weights if it is bfloat16."""
        return super().forward(input.to(self.weight.dtype) if input.dtype == torch.bfloat16 else input)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Compute attention softmax(query key^T / sqrt(width)) value per head; all are (b, heads, positions, width)."""
    if value.device.type == "cpu" and value.dtype == torch.bfloat16:
        # On a CPU, gradients of torch's bfloat16 kernel need up to twelve times as long as those of float32.
        with torch.autocast("cpu", enabled=False):
            return F.scaled_dot_product_attention(query.float(), key.float(), value.float()).to(value.dtype)
    return F.scaled_dot_product_attention(query, key, value)


def zeroed(layer: Layer) -> Layer:
    """Set the weights of a layer to zero, so that a residual block that ends in it starts as the identity; return it."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def channels_last(module: nn.Module) -> None:
    """Store the weights of all convolutions in channels-last memory."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)


def hidden_weights(*parts: nn.Module) -> list[Tensor]:
    """Return the weights of the linear layers and convolutions in these parts.

    It omits modulations, whose input is the embedding of t, and depthwise convolutions, which do not mix channels.
    """
    layers = [layer for part in parts for layer in part.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    return [layer.weight for layer in layers if not isinstance(layer, Modulation) and getattr(layer, "groups", 1) == 1]
