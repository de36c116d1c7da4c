"""Devices by name."""

from __future__ import annotations

import os

import torch

from kakusan.errors import InputError


def device_named(name: str) -> torch.device:
    """Return the device named auto, cpu, cuda, cuda:N or mps; each process gets its own GPU. InputError if missing."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise InputError(f"device must be auto, cpu, cuda, cuda:N or mps, got {name!r}")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError(f"device {name!r} is not available: torch finds no Apple GPU; use --device cpu")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {name!r} is not available: torch finds no GPU; use --device cpu")
    if device.type == "cuda":  # by default torch lets convolutions round to TF32; only optim.precision may allow that
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if device.type == "cuda" and device.index is None and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {name!r} does not exist; GPUs found: {torch.cuda.device_count()}, numbered from 0")
    return device
