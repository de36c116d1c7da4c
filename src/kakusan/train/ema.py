"""Averaged weights whose memory grows with the run."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from kakusan.train.engine import in_parts, part, whole


class Ema:
    """Weights averaged with a power profile: step s of k weighs about (s / k)^(1/share - 2), s <= k.

    The average always spans the same share of the run so far, so a short run is not stuck at its initial
    weights, and a resumed one needs nothing but its step. Buffers are copied, never averaged.
    Source: the power-function profile of Karras et al. 2024, section 3.1.

    Args:
        module: Whose weights are averaged, as they move; they may be held in parts by several processes.
        share: Of the run that the average looks back on, below 1; 0 for the last weights.
        copy_of: A whole copy of the module, to hold the average; made here unless given.
    """

    def __init__(self, module: nn.Module, share: float, copy_of: nn.Module | None = None):
        self.share = share
        self._whole = (copy_of or copy.deepcopy(module)).eval().requires_grad_(False)
        # found once: walking a module's tree costs more than averaging a small one
        theirs = dict(module.named_parameters())
        self._in_parts = any(in_parts(p) for p in theirs.values())
        own = dict(self._whole.named_parameters())
        self.tensors: dict[str, Tensor] = {
            name: p.detach().clone() if self._in_parts else own[name].detach() for name, p in theirs.items()
        }
        self._mine: list[Tensor] = [part(tensor) for tensor in self.tensors.values()]
        self._theirs: list[Tensor] = [part(p.detach()) for p in theirs.values()]
        self._my_buffers, self._their_buffers = list(self._whole.buffers()), list(module.buffers())
        self.tensors |= {name: tensor for name, tensor in self._whole.state_dict().items() if name not in self.tensors}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After optimiser step number `step` >= 1."""
        keep: float = (1 - 1 / step) ** (1 / self.share - 1) if self.share > 0 else 0.0
        torch._foreach_lerp_(self._mine, self._theirs, 1 - keep)
        if self._my_buffers:
            torch._foreach_copy_(self._my_buffers, self._their_buffers)

    @property
    def module(self) -> nn.Module:
        """A whole module with the average, not to be trained; all processes must ask together."""
        if self._in_parts:
            for name, p in self._whole.named_parameters():
                p.data.copy_(whole(self.tensors[name]))
        return self._whole
