"""Weights as text: the upper three bytes of each float32, compressed, in base64."""

from __future__ import annotations

import base64
import gzip
from typing import Any

import numpy as np
import torch

from kakusan.exchange.html.lower import Program

KEPT = 3  # bytes of 4; the relative error of a weight is at most 2^-17


def table(program: Program) -> dict[str, Any]:
    """The program as the engine reads it; weights are given by their offset."""
    offsets, at = {}, 0
    for buffer, tensor in program.weights.items():
        offsets[buffer] = at
        at += tensor.numel()
    return {
        "sizes": program.sizes,
        "ops": program.ops,
        "inputs": program.inputs,
        "output": program.output,
        "weights": offsets,
    }


def num_weights(program: Program) -> int:
    """Number of constants."""
    return sum(tensor.numel() for tensor in program.weights.values())


def packed(*programs: Program) -> str:
    """The weights of one or two networks, in the order of their tables."""
    flat = torch.cat([tensor.flatten() for program in programs for tensor in program.weights.values()])
    words = flat.numpy().astype("<f4").view("<u4").astype(np.uint64) + 0x80  # rounded to the nearest
    planes = np.stack([(words >> shift).astype(np.uint8) for shift in (24, 16, 8)])
    return base64.b64encode(gzip.compress(planes.tobytes(), 9, mtime=0)).decode()
