"""What the networks of a denoiser have in common: layers that t moves, layers that start at zero, hidden matrices."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor, nn

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


class Modulation(nn.Linear):
    """From the time's features to scales, shifts and gates."""


class GroupNorm(nn.GroupNorm):
    """In its weights' precision, also of what bfloat16 autocast brings: on a GPU autocast does that itself.

    Of bfloat16 numbers torch's takes one at a time on a CPU, which costs more than the convolutions around it.
    """

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.to(self.weight.dtype))


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
