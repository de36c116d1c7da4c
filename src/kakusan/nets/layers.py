"""What the networks of a denoiser have in common: layers that t moves, layers that start at zero, hidden matrices."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor, nn

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


class Modulation(nn.Linear):
    """From the time's features to scales, shifts and gates."""


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
