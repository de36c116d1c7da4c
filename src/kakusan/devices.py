"""Devices without float64: the CPU computes everything that needs float64, and draws the noise.

An Apple GPU ("mps") has no float64. Bounds, classes and timesteps need it, so these few numbers stay on the CPU. Noise
is drawn on the CPU as well, so that a seed gives the same numbers on every machine.
"""

from __future__ import annotations

import torch
from torch import Tensor

WITHOUT_FLOAT64 = {"mps"}  # device types


def precise_device(device: torch.device | str) -> torch.device:
    """Return the device itself, or the CPU if the device has no float64."""
    device = torch.device(device)
    return torch.device("cpu") if device.type in WITHOUT_FLOAT64 else device


def precise(x: Tensor) -> Tensor:
    """Return the values in float64: on their own device, or on the CPU if that device has no float64."""
    return x.to(precise_device(x.device)).double()
