"""Augmentation of training images on their device, with the random stream of the step.

Evaluated examples are never changed, so the likelihood is that of the data themselves.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from kakusan.noise import Randomness, rand

REACH = 2  # pixels


def augmented(pixels: Tensor, how: str, randomness: Randomness) -> Tensor:
    """Shift each image by up to two pixels in each direction, with 25 equally likely shifts and zero padding.

    Args:
        pixels: uint8 (b, C, H, W).
        how: "none" (draws nothing), "shift", or "shift-and-mirror", which also mirrors half of the images left to
            right. Mirroring does not suit digits.
        randomness: Random stream of the step.

    Returns:
        uint8 (b, C, H, W).
    """
    if how == "none":
        return pixels
    b, _, height, width = pixels.shape
    drawn = rand((b, 3), randomness, torch.float32, pixels.device)
    down, right = ((2 * REACH + 1) * drawn[:, :2]).long().unbind(1)  # 0 to 4; 2 is no shift
    rows = torch.arange(height, device=pixels.device) + (2 * REACH - down)[:, None]
    columns = torch.arange(width, device=pixels.device).expand(b, width)
    if how == "shift-and-mirror":
        columns = torch.where(drawn[:, 2:] < 0.5, columns, columns.flip(1))
    columns = columns + (2 * REACH - right)[:, None]
    padded = F.pad(pixels, (REACH,) * 4)
    example = torch.arange(b, device=pixels.device)[:, None, None]
    return padded.movedim(1, -1)[example, rows[:, :, None], columns[:, None, :]].movedim(-1, 1).contiguous()
