"""Example indices of each step, a pure function of (seed, step, micro-batch), so that resuming needs no generator state."""

from __future__ import annotations

import torch
from torch import Tensor

from kakusan.noise import stream


class Batches:
    """Batches of an endless sequence of shuffled epochs; step k takes positions k * batch to (k + 1) * batch - 1.

    Every example occurs once per epoch, all batches have the same size, and step k costs the same for any k.

    Args:
        num_examples: Number of training examples.
        batch: Number of examples per step.
        seed: Random seed of the shuffles.
        device: Device of the indices.
        micro_batches: Number of micro-batches per batch.
        salt: Number that selects different shuffles for the same seed.
    """

    def __init__(
        self, num_examples: int, batch: int, seed: int, device: torch.device, micro_batches: int = 1, salt: int = 0
    ):
        self.num_examples, self.batch, self.seed, self.device, self.salt = num_examples, batch, seed, device, salt
        self.slice = batch // micro_batches
        self._orders: dict[int, Tensor] = {}

    def indices(self, step: int, micro_batch: int = 0) -> Tensor:
        """Return the example indices of one micro-batch, int64 (batch / micro_batches,); steps start at 0."""
        first = step * self.batch + micro_batch * self.slice
        parts, needed = [], self.slice
        while needed:
            epoch, position = divmod(first, self.num_examples)
            part = self._order(epoch)[position : position + needed]
            parts.append(part)
            first, needed = first + len(part), needed - len(part)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            if len(self._orders) > 1:  # a batch spans at most two epochs, or many epochs of very few examples
                self._orders.clear()
            generator = stream(self.seed, "order", self.salt, epoch)
            order = torch.randperm(self.num_examples, generator=generator)
            # pinned memory makes the copy to a GPU asynchronous
            order = order.pin_memory() if self.device.type == "cuda" else order
            self._orders[epoch] = order.to(self.device, non_blocking=True)
        return self._orders[epoch]
