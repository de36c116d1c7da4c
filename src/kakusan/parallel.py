"""Work on many examples, split over threads that use one core each.

The operations of a small network are too short to share among cores, which wait for each other after each operation. If
another process takes one core, all cores wait. Examples are independent, so each thread takes a part of them instead.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import torch
from torch import Tensor

ROWS = 128  # examples in a part; smaller parts cost more per example

_lock = threading.Lock()


def by_rows(compute: Callable[..., Tensor], *columns: Any, size: int = ROWS) -> Tensor:
    """Return compute(*columns) for independent examples, computed in parts on one thread per core that torch uses.

    Args:
        compute: Function of parts of the columns that returns one row for each example. It runs in several threads at once.
        columns: Tensors or lists of the same length, or None. Work is split only if all tensors are on the CPU.
        size: Largest number of examples in a part.
    """
    n, cores = len(columns[0]), torch.get_num_threads()
    on_cpu = all(column.device.type == "cpu" for column in columns if isinstance(column, Tensor))
    if n < 2 or cores < 2 or not on_cpu:
        return compute(*columns)
    size = min(size, -(-n // cores))
    parts = [[c if c is None else c[start : start + size] for c in columns] for start in range(0, n, size)]
    return torch.cat(_on_threads(compute, parts, cores))


def _on_threads(compute: Callable[..., Tensor], parts: Sequence[Sequence[Any]], num: int) -> list[Tensor]:
    grad = torch.is_grad_enabled()

    def one(part: Sequence[Any]) -> Tensor:
        with torch.set_grad_enabled(grad):  # each thread has its own setting
            return compute(*part)

    with _lock:
        torch.set_num_threads(1)  # MKL has one number of threads for the whole process
        futures = [_pool(num, os.getpid()).submit(one, part) for part in parts]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()
            wait(futures)
            torch.set_num_threads(num)


@functools.cache
def _pool(num: int, process: int) -> ThreadPoolExecutor:
    """Return a lasting pool, because a new thread prepares all kernels again. A fork needs its own, hence `process`."""
    return ThreadPoolExecutor(num, "examples", initializer=use_cores, initargs=(1,))


def use_cores(num: int) -> None:
    """Make the current thread compute with this number of cores."""
    torch.set_num_threads(num)
    torch.get_num_threads()  # a thread adopts the process's number when it first reads it
