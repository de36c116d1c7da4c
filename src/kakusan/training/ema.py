"""Averaged weights whose memory grows with the run."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Ema:
    """Weights averaged with a power profile: step s of k weighs about (s / k)^(1/share - 2), s <= k.

    The average always spans the same share of the run so far. So a short run forgets its initial weights, and resuming
    needs only the step. Buffers are copied, never averaged.
    Source: the power-function profile of Karras et al. 2024, section 3.1.

    Args:
        module: Module whose weights are averaged.
        share: Length of the average as a share of the run, below 1; 0 keeps the last weights.
    """

    def __init__(self, module: nn.Module, share: float):
        self.share = share
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        # listed once: walking a module's tree costs more than averaging a small one
        self._averages: list[Tensor] = list(self.module.parameters())
        self._weights = [p.detach() for p in module.parameters()]
        self._buffers = list(zip(self.module.buffers(), module.buffers()))
        self.tensors: dict[str, Tensor] = dict(self.module.state_dict())

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Average the weights after optimizer step number `step` >= 1."""
        keep: float = (1 - 1 / step) ** (1 / self.share - 1) if self.share > 0 else 0.0
        get_ema_multi_avg_fn(keep)(self._averages, self._weights, None)
        for kept, current in self._buffers:
            kept.copy_(current)
