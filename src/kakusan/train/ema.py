"""Averaged weights whose memory grows with the run."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Ema:
    """Weights averaged with a power profile: step s of k weighs about (s / k)^(1/share - 2), s <= k.

    The average always spans the same share of the run so far, so a short run is not stuck at its initial
    weights, and a resumed one needs nothing but its step. Buffers are copied, never averaged.
    Source: the power-function profile of Karras et al. 2024, section 3.1.
    """

    def __init__(self, module: nn.Module, share: float):
        self.share = share
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        # found once: walking a module's tree costs more than averaging a small one
        self._mine: list[Tensor] = list(self.module.parameters())
        self._theirs: list[Tensor] = list(module.parameters())
        self._my_buffers, self._their_buffers = list(self.module.buffers()), list(module.buffers())

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After optimiser step number `step` >= 1."""
        keep: float = (1 - 1 / step) ** (1 / self.share - 1) if self.share > 0 else 0.0
        torch._foreach_lerp_(self._mine, self._theirs, 1 - keep)
        if self._my_buffers:
            torch._foreach_copy_(self._my_buffers, self._their_buffers)
