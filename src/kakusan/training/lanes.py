"""Groups of a batch side by side, each on a thread of its own with its share of the cores.

A small network has little for several cores in each of its operations, and they wait for each other after every one.
Groups have nothing to wait for until their gradients are added up. That is done in the order of the groups, so the
bits are those of one group after the other on the cores of one of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

import torch
from torch import Tensor, nn

from kakusan.training.settings import Optim


def allows_lanes(settings: Optim, device: torch.device) -> bool:
    """True if losses may be computed in parallel."""
    return device.type == "cpu" and settings.compile == "none"


class Lanes:
    """Threads that divide among them the cores which torch uses here.

    Args:
        num: How many.
        parameters: Whose gradients are wanted. A loss reads them, and must not exchange them, even for a while.
        buffers: Buffers of the networks. If the first losses move one of them, as a normalization's statistics move, later ones
            are taken in turn as well: side by side they would move it at once.
    """

    def __init__(self, num: int, parameters: Sequence[nn.Parameter], buffers: Sequence[Tensor]):
        self._parameters, self._buffers = parameters, buffers
        self._beside: bool | None = None  # not known yet
        before = torch.get_num_threads()
        share = max(1, before // num)
        self._pool = ThreadPoolExecutor(num, "lane", initializer=_compute_with, initargs=(share,))
        meeting = threading.Barrier(num)  # so that each thread is there, and has set its number
        try:
            wait([self._pool.submit(meeting.wait) for _ in range(num)])
        except BaseException:
            meeting.abort()  # those that wait for one that cannot come
            raise
        torch.set_num_threads(before)  # which threads that others start later begin with

    def gradients(self, losses: Sequence[Callable[[], Tensor]]) -> list[Tensor]:
        """Leave the gradients of the losses' sum in the parameters; what each loss was.

        If losses raise, the first one's error, once none is computed any more; the gradients are then of no use.
        """
        if self._beside:
            return self._sum([self._pool.submit(self._one, loss) for loss in losses])
        before, values = [buffer.clone() for buffer in self._buffers], []
        for loss in losses:  # in each of them too: the number of cores decides the bits
            values += self._sum([self._pool.submit(self._one, loss)])
        if self._beside is None:
            self._beside = all(map(torch.equal, before, self._buffers))
        return values

    def _one(self, loss: Callable[[], Tensor]) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        value = loss()
        return value.detach(), torch.autograd.grad(value, self._parameters, allow_unused=True)

    def _sum(self, futures: list[Future[tuple[Tensor, tuple[Tensor | None, ...]]]]) -> list[Tensor]:
        """Each one's gradients, added in order and let go; what each loss was."""
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


def _compute_with(num_threads: int) -> None:
    torch.set_num_threads(num_threads)
    torch.get_num_threads()  # torch takes the number of the process, which is this one now, when a thread first asks
