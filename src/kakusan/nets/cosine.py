"""A residual perceptron on the image's cosine coefficients.

The cosine coefficients of images are nearly uncorrelated. So one gain for each coefficient and t is nearly the best
linear denoiser. The perceptron adds the nonlinear part.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kakusan.nets.base import ImageDenoiser
from kakusan.nets.layers import Modulation, modulate, zeroed
from kakusan.nets.time import TimeKind


def cosine_basis(size: int) -> Tensor:
    """Matrix of the orthonormal discrete cosine transform of type II, (frequency, position), float64.

    Source: Ahmed, Natarajan and Rao 1974.
    """
    position = torch.arange(size, dtype=torch.float64) + 0.5
    frequency = torch.arange(size, dtype=torch.float64)[:, None]
    basis = (math.pi / size * frequency * position).cos() * (2 / size) ** 0.5
    basis[0] /= 2**0.5
    return basis


class CosineMLP(ImageDenoiser):
    """Perceptron denoiser, from z_t (b, C, H, W) and t (b,) to a prediction, and with `gate` also v in [0, 1].

    Both outputs have the shape of z_t. It is the cheapest of the networks, for small images and for tests of a
    pipeline; `UNet` learned more per minute.

    Args:
        channels: C.
        size: (H, W).
        num_steps: T, for the time table.
        width: Units of every layer; 512 suits 28 x 28 images.
        blocks: Number of residual blocks.
        time: "sinusoidal" features of t, or a "table" with one row per t (M12).
        gate: Also return the learned variance's v (M7), made from cosine coefficients as well.
        num_classes: Number of classes if class-conditional, otherwise 0.
        time_width: Width of the embedding of t and cond.
        cond_dim: Number of features if conditional on features, otherwise 0.
    """

    settings = ("width", "blocks")
    vertical: Tensor
    horizontal: Tensor

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        num_steps: int,
        width: int = 512,
        blocks: int = 3,
        time: TimeKind = "sinusoidal",
        gate: bool = False,
        num_classes: int = 0,
        time_width: int = 128,
        cond_dim: int = 0,
    ):
        super().__init__(time, time_width, num_steps, num_classes, cond_dim)
        self.shape, self.gate = (channels, *size), gate
        num_dims = math.prod(self.shape)
        for name, side in zip(("vertical", "horizontal"), size):
            self.register_buffer(name, cosine_basis(side).to(torch.get_default_dtype()), persistent=False)
        self.gain = zeroed(Modulation(time_width, num_dims))
        self.first = nn.Linear(num_dims, width)
        self.blocks = nn.ModuleList([Block(width, time_width) for _ in range(blocks)])
        self.norm = nn.LayerNorm(width)
        self.last = zeroed(nn.Linear(width, num_dims * (2 if gate else 1)))

    def forward(self, z_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Return the prediction for z_t at t."""
        e = self.embed(t, cond)
        coefficients = (self.vertical @ z_t @ self.horizontal.T).flatten(1)
        h = self.first(coefficients)
        for block in self.blocks:
            h = block(h, e)
        prediction, *rest = self.last(self.norm(h)).split(coefficients.shape[1], dim=1)
        prediction = self._pixels(prediction + self.gain(e) * coefficients)
        return (prediction, self._pixels(rest[0]).sigmoid()) if self.gate else prediction

    def _pixels(self, coefficients: Tensor) -> Tensor:
        return self.vertical.T @ coefficients.unflatten(1, self.shape) @ self.horizontal


class Block(nn.Module):
    """Residual two-layer perceptron, modulated by t and initialized as the identity."""

    def __init__(self, width: int, time_width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.modulation = Modulation(time_width, 2 * width)
        self.into = nn.Linear(width, width)
        self.back = zeroed(nn.Linear(width, width))

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """Map x (b, width) given the embedding e (b, time_width)."""
        scale, shift = self.modulation(e).chunk(2, dim=-1)
        return x + self.back(F.silu(self.into(modulate(self.norm(x), scale, shift))))
