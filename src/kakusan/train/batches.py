"""Which examples a step sees: a pure function of (seed, step), so that resuming needs no generator state."""

from __future__ import annotations

import torch
from torch import Tensor

from kakusan.noise import stream


class Batches:
    """Positions step * batch .. (step + 1) * batch of an endless row of freshly shuffled epochs.

    Every example is seen once an epoch, no batch is short, and step k costs the same for any k.
    """

    def __init__(self, num_examples: int, batch: int, seed: int, device: torch.device):
        self.num_examples, self.batch, self.seed, self.device = num_examples, batch, seed, device
        self._orders: dict[int, Tensor] = {}

    def indices(self, step: int) -> Tensor:
        """Indices of the examples of one step, int64 (batch,); steps count from 0."""
        first = step * self.batch
        parts, needed = [], self.batch
        while needed:
            epoch, position = divmod(first, self.num_examples)
            part = self._order(epoch)[position : position + needed]
            parts.append(part)
            first, needed = first + len(part), needed - len(part)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            if len(self._orders) > 1:  # a batch spans two epochs at most, or many tiny ones
                self._orders.clear()
            order = torch.randperm(self.num_examples, generator=stream(self.seed, "order", epoch))
            self._orders[epoch] = order.to(self.device)
        return self._orders[epoch]
