"""Which device a run is on."""

from __future__ import annotations

import torch

from kakusan.errors import InputError


def device_named(name: str) -> torch.device:
    """auto, cpu, cuda or cuda:N; InputError if it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {name!r} asked for, but this torch sees no GPU; type --device cpu")
    return device
