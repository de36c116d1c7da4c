"""Groups of a batch side by side, each on a thread of its own with its share of the cores.

A small network has little for several cores in each of its operations, and they wait for each other after every one.
Groups have nothing to wait for until their gradients are added up. That is done in the order of the groups, so the
bits are those of one group after the other on a lane's cores.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import torch
from torch import Tensor, nn


class Lanes:
    """Threads that divide among them the cores which torch uses here.

    Args:
        num: How many.
        parameters: Whose gradients are wanted.
        buffers: Of the networks. If the first losses move one of them, as a normalisation's statistics move, later ones
            are taken in turn as well: side by side they would move it at once.
    """

    def __init__(self, num: int, parameters: Sequence[nn.Parameter], buffers: Sequence[Tensor]):
        self._parameters, self._buffers = parameters, buffers
        self._beside: bool | None = None  # not known yet
        before = torch.get_num_threads()
        share = max(1, before // num)
        self._pool = ThreadPoolExecutor(num, "lane", initializer=_compute_with, initargs=(share,))
        barrier = threading.Barrier(num + 1)
        started = [self._pool.submit(barrier.wait) for _ in range(num)]  # so that each is there, and has set its number
        barrier.wait()
        wait(started)
        torch.set_num_threads(before)  # which threads that others start later begin with

    def gradients(self, losses: Sequence[Callable[[], Tensor]]) -> list[Tensor]:
        """Leave the gradients of the losses' sum in the parameters; what each loss was.

        If losses raise, the first one's error, once all have ended; the parameters are then as they were.
        """
        if self._beside is None:
            before = [buffer._version for buffer in self._buffers]
            done = self._in_turn(losses)
            self._beside = before == [buffer._version for buffer in self._buffers]
        elif self._beside:
            futures = [self._pool.submit(self._one, loss) for loss in losses]
            wait(futures)
            done = [future.result() for future in futures]
        else:
            done = self._in_turn(losses)
        for p, *found in zip(self._parameters, *(gradients for _, gradients in done), strict=True):
            for gradient in found:
                if gradient is not None:
                    p.grad = torch.empty_like(p).copy_(gradient) if p.grad is None else p.grad.add_(gradient)
        return [value for value, _ in done]

    def _in_turn(self, losses: Sequence[Callable[[], Tensor]]) -> list[tuple[Tensor, tuple[Tensor | None, ...]]]:
        """On one lane, whose number of cores decides the bits."""
        return [self._pool.submit(self._one, loss).result() for loss in losses]

    def _one(self, loss: Callable[[], Tensor]) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        value = loss()
        return value.detach(), torch.autograd.grad(value, self._parameters, allow_unused=True)


def _compute_with(num_threads: int) -> None:
    torch.set_num_threads(num_threads)
    torch.get_num_threads()  # torch takes the number of the process, which is this one now, when a thread first asks
