"""Weight averages over a fixed share of the run."""

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
        self._module = copy.deepcopy(module).eval().requires_grad_(False)
        # listed once, because walking a module's tree costs more than averaging a small module
        self._averages: list[Tensor] = list(self._module.parameters())
        self._weights = [p.detach() for p in module.parameters()]
        self._buffers = list(zip(self._module.buffers(), module.buffers()))
        self._tensors: dict[str, Tensor] = dict(self._module.state_dict())
        self._current = True  # False while the last weights have not been copied

    @property
    def module(self) -> nn.Module:
        """A copy of the module with the averaged weights, in evaluation mode."""
        self._catch_up()
        return self._module

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Return the averaged weights and buffers by name."""
        self._catch_up()
        return self._tensors

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Include the weights after optimizer step number `step` >= 1 in the average."""
        self._current = self.share > 0
        if self._current:
            self._average((1 - 1 / step) ** (1 / self.share - 1))

    @torch.no_grad()
    def _catch_up(self) -> None:
        if not self._current:
            self._current = True
            self._average(0.0)

    def _average(self, keep: float) -> None:
        get_ema_multi_avg_fn(keep)(self._averages, self._weights, None)
        for kept, current in self._buffers:
            kept.copy_(current)
