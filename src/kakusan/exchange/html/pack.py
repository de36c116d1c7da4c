"""Weights as text: the upper three bytes of each float32, compressed, in base64.

The relative error of a weight is at most 2^-16.
"""

from __future__ import annotations

import base64
import gzip
from typing import Any

import numpy as np
import torch

from kakusan.exchange.html.lower import Program


def table(program: Program) -> dict[str, Any]:
    """Return the program in the form that the engine reads; weights are given by their offset."""
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
    """Return the number of weights of a program."""
    return sum(tensor.numel() for tensor in program.weights.values())


def packed(*programs: Program) -> str:
    """Return the weights of one or two networks as text, in the order of their tables."""
    flat = torch.cat([tensor.flatten() for program in programs for tensor in program.weights.values()])
    words = flat.numpy().astype("<f4").view("<u4").astype(np.uint64) + 0x80  # rounds to the nearest
    planes = np.stack([(words >> shift).astype(np.uint8) for shift in (24, 16, 8)])
    return base64.b64encode(gzip.compress(planes.tobytes(), 9, mtime=0)).decode()
