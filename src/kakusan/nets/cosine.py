"""A residual perceptron that sees the picture's cosine coefficients: cheap, and blind to nothing.

In the cosine basis the pixels of pictures are nearly uncorrelated, so that a gain for each coefficient, as t decides,
is nearly the best linear denoiser. The perceptron has only to add what is not linear.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kakusan.nets.layers import Modulation, hidden_weights, zeroed
from kakusan.nets.time import TimeKind, time_network


def cosine_basis(size: int) -> Tensor:
    """The orthonormal discrete cosine transform of type II as a matrix (frequency, position), float64.

    Source: Ahmed, Natarajan and Rao 1974.
    """
    position = torch.arange(size, dtype=torch.float64) + 0.5
    frequency = torch.arange(size, dtype=torch.float64)[:, None]
    basis = (math.pi / size * frequency * position).cos() * (2 / size) ** 0.5
    basis[0] /= 2**0.5
    return basis


class CosineMLP(nn.Module):
    """(z_t (b, C, H, W), t (b,)) -> prediction of z_t's shape, and with `gate` also v in [0, 1] of that shape.

    Args:
        channels: C.
        size: (H, W).
        depth: T, for the time table.
        width: Units of every layer.
        blocks: Residual blocks.
        time: "sinusoidal" features of t, or a "table" with a row for each t (M12).
        gate: Also return the learned variance's v (M7), which is made of cosines too.
        clusters: How many kinds of examples it is told of: then k (b,), below their number, follows t. 0 for none.
    """

    vertical: Tensor
    horizontal: Tensor

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        depth: int,
        width: int = 512,
        blocks: int = 3,
        time: TimeKind = "sinusoidal",
        gate: bool = False,
        clusters: int = 0,
        time_width: int = 128,
    ):
        super().__init__()
        self.shape, self.gate = (channels, *size), gate
        numbers = channels * size[0] * size[1]
        for name, side in zip(("vertical", "horizontal"), size):
            self.register_buffer(name, cosine_basis(side).to(torch.get_default_dtype()), persistent=False)
        self.time = time_network(time, time_width, depth, clusters)
        self.gain = zeroed(Modulation(time_width, numbers))
        self.first = nn.Linear(numbers, width)
        self.blocks = nn.ModuleList([Block(width, time_width) for _ in range(blocks)])
        self.norm = nn.LayerNorm(width)
        self.last = zeroed(nn.Linear(width, numbers * (2 if gate else 1)))

    def forward(self, z: Tensor, t: Tensor, *cluster: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        e = self.time(t, *cluster)
        coefficients = (self.vertical @ z @ self.horizontal.T).flatten(1)
        h = self.first(coefficients)
        for block in self.blocks:
            h = block(h, e)
        prediction, *rest = self.last(self.norm(h)).split(coefficients.shape[1], dim=1)
        prediction = self._pixels(prediction + self.gain(e) * coefficients)
        return (prediction, self._pixels(rest[0]).sigmoid()) if self.gate else prediction

    def _pixels(self, coefficients: Tensor) -> Tensor:
        return self.vertical.T @ coefficients.unflatten(1, self.shape) @ self.horizontal

    def hidden_matrices(self) -> list[Tensor]:
        """Weights between hidden layers: those that an orthogonalising optimiser is for."""
        return hidden_weights(self.blocks)


class Block(nn.Module):
    """A two-layer perceptron around a scale and shift that t decides; starts as the identity."""

    def __init__(self, width: int, time_width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.modulation = Modulation(time_width, 2 * width)
        self.into = nn.Linear(width, width)
        self.back = zeroed(nn.Linear(width, width))

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        scale, shift = self.modulation(e).chunk(2, dim=-1)
        h = self.norm(x)
        return x + self.back(F.silu(self.into(torch.addcmul(h + shift, h, scale))))
