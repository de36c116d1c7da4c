"""Augmentation of training images, on the device that holds them, drawn from the step's own stream.

Examples that are evaluated are never changed: the likelihood is that of the data as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from kakusan.noise import Randomness, rand

REACH = 2  # pixels


def augmented(pixels: Tensor, how: str, randomness: Randomness) -> Tensor:
    """Each image shifted by up to two pixels in either direction, all 25 shifts equally likely, padded with zeros.

    Args:
        pixels: uint8 (b, C, H, W).
        how: "none" (draws nothing), "shift", or "shift-and-mirror", which also mirrors half of the images left to
            right and is not for digits.
        randomness: The step's.
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
