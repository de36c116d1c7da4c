"""Micro-batches in parallel threads, each with its share of the CPU cores.

Operations of a small network are too short for several cores, which wait for each other after every operation.
Micro-batches are independent until their gradients are added. They are added in order, so the result has the same bits
as when one thread computes the micro-batches in turn with its cores.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

import torch
from torch import Tensor, nn

from kakusan.parallel import use_cores
from kakusan.training.settings import Optim


def allows_threads(settings: Optim, device: torch.device) -> bool:
    """Return whether micro-batches may be computed in parallel."""
    return device.type == "cpu" and settings.compile == "none"


class MicroBatchThreads:
    """Threads that share the CPU cores which torch uses in this process.

    Args:
        num: Number of threads.
        parameters: Parameters to differentiate. A loss may read them and must never replace them, even temporarily.
        buffers: Buffers of the networks. If the first losses change one, as batch normalization does, all later losses are
            computed in turn. Otherwise parallel threads would change it at the same time.
    """

    def __init__(self, num: int, parameters: Sequence[nn.Parameter], buffers: Sequence[Tensor]):
        self._parameters, self._buffers = parameters, buffers
        self._parallel: bool | None = None  # unknown before the first step
        before = torch.get_num_threads()
        share = max(1, before // num)
        self._pool = ThreadPoolExecutor(num, "micro-batch", initializer=use_cores, initargs=(share,))
        meeting = threading.Barrier(num)  # passed once every thread has started and set its number of cores
        try:
            wait([self._pool.submit(meeting.wait) for _ in range(num)])
        except BaseException:
            meeting.abort()  # release threads that wait for one that failed to start
            raise
        torch.set_num_threads(before)  # the default for threads that start later

    def gradients(self, losses: Sequence[Callable[[], Tensor]]) -> list[Tensor]:
        """Compute the gradients of the sum of the losses in the parameters; return the values of the losses.

        If losses raise, the first error is raised after all threads have stopped. The gradients are then incomplete.
        """
        if self._parallel:
            return self._sum([self._pool.submit(self._one, loss) for loss in losses])
        before, values = [buffer.clone() for buffer in self._buffers], []
        for loss in losses:  # also in the threads, because the number of cores affects rounding
            values += self._sum([self._pool.submit(self._one, loss)])
        if self._parallel is None:
            self._parallel = all(map(torch.equal, before, self._buffers))
        return values

    def _one(self, loss: Callable[[], Tensor]) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        value = loss()
        return value.detach(), torch.autograd.grad(value, self._parameters, allow_unused=True)

    def _sum(self, futures: list[Future[tuple[Tensor, tuple[Tensor | None, ...]]]]) -> list[Tensor]:
        """Add the gradients in order and free them; return the values of the losses."""
        values = []
        try:
            while futures:
                value, gradients = futures[0].result()
                del futures[0]
                values.append(value)
                for p, gradient in zip(self._parameters, gradients, strict=True):
                    if gradient is not None:
                        p.grad = torch.empty_like(p).copy_(gradient) if p.grad is None else p.grad.add_(gradient)
        finally:
            for future in futures:
                future.cancel()
            wait(futures)
        return values
