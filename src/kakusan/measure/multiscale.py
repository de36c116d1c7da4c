"""Features of any images without a download: fixed random convolutions of the image at several scales.

Each scale has two layers of random filters. The first layer gives the logarithms of its means over the image, and the
second its means over quarters of the image. The mean colors of a 3 x 3 grid are added. All filters come from one fixed
seed, so features of different runs are comparable. Features are standardized by those of real images.

Random filters respond to blur, noise, color and layout, and not to the subject of an image. Naeem et al. 2020 recommend
them for images that differ from photographs. docs/measures.md gives the reasons and the alternatives.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kakusan.noise import stream

NAME = "multiscale"
SCALES = 3
SMALLEST_SIDE = 8  # smallest side of an image at any scale, in pixels
WIDTH, INNER = 16, 8  # filters of the first and of the second layer
FAINT = 0.01  # constant added before the logarithm
GRID = 3  # cells per side of the grid of mean colors
FLOOR = 0.1  # smallest scale relative to the median std, so that features that hardly vary are not enlarged
VALUES_AT_ONCE = 2**21  # pixels in a batch, which bounds its memory
MOST_COMPARED = 1024  # largest number of pixels compared for copies; larger images are averaged to 16 x 16
COMPARED_SIDE = 16


@cache
def filters(channels: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Filters of the first layer (16, C, 3, 3) and of the second (8, 16, 3, 3), and its biases (8,), for each scale.

    All filters have norm 1. Half of the first ones have mean zero, so they respond to edges and not to brightness.
    """
    layers = []
    for scale in range(SCALES):
        generator = stream("multiscale", channels, scale)
        first = torch.randn(WIDTH, channels, 3, 3, generator=generator)
        first[: WIDTH // 2] -= first[: WIDTH // 2].mean((2, 3), keepdim=True)
        second = torch.randn(INNER, WIDTH, 3, 3, generator=generator)
        bias = 0.1 * torch.randn(INNER, generator=generator)
        layers.append((_of_norm_1(first), _of_norm_1(second), bias))
    return layers


def _of_norm_1(part: Tensor) -> Tensor:
    return part / part.flatten(1).norm(dim=1)[:, None, None, None]


def raw_features(images: np.ndarray) -> Tensor:
    """Features (N, D) of images uint8 (N, H, W, C), before scaling."""
    batch = max(1, VALUES_AT_ONCE // max(1, int(np.prod(images.shape[1:]))))
    parts = [_features(_tensor(images[start : start + batch])) for start in range(0, len(images), batch)]
    return torch.cat(parts)


def _tensor(images: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images)).movedim(-1, 1).float() / 127.5 - 1


def _features(x: Tensor) -> Tensor:
    """Features of images (b, C, H, W) in [-1, 1]."""
    found = [F.adaptive_avg_pool2d(x, GRID).flatten(1)]
    for first, second, bias in filters(x.shape[1]):
        edges = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), first).relu()
        parts = F.conv2d(edges, second, bias, stride=2, padding=1).relu()
        found += [(edges.mean((2, 3)) + FAINT).log(), F.adaptive_avg_pool2d(parts, 2).flatten(1)]
        if min(x.shape[2:]) < 2 * SMALLEST_SIDE:
            break
        x = F.avg_pool2d(x, 2)
    return torch.cat(found, dim=1)


def scaling(real: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (D,) of features of real images (N, D); very small deviations are raised."""
    std = real.std(0)
    return real.mean(0), std.clamp_min(FLOOR * std.median().clamp_min(1e-6))


def compared_pixels(images: np.ndarray) -> Tensor:
    """Pixels (N, P) for finding copies: all pixels of small images, averages over at most 16 x 16 cells of others."""
    count, height, width, channels = images.shape
    if height * width * channels <= MOST_COMPARED:
        return torch.from_numpy(np.ascontiguousarray(images)).flatten(1)
    size = min(height, COMPARED_SIDE), min(width, COMPARED_SIDE)
    batch = max(1, VALUES_AT_ONCE // (height * width * channels))
    parts = [
        F.adaptive_avg_pool2d((_tensor(images[start : start + batch]) + 1) * 127.5, size).flatten(1)
        for start in range(0, count, batch)
    ]
    return torch.cat(parts)
