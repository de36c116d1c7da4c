"""Process groups, and gradient averaging over the ranks of a job with torch's DistributedDataParallel.

A single process starts no process group. Several ranks hold copies of the weights and average the gradients.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from kakusan import distributed, signals
from kakusan.errors import InputError, PeerFailed, Stopped

PEER_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")  # messages of gloo
PATIENCE = timedelta(minutes=30)  # longest wait for the slowest process, which may be measuring or saving


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the process group that torchrun or `--devices` describes in the environment; one process joins none."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    with signals.left_to_the_system():  # nothing is to be saved yet, and a wait in C++ cannot run a Python handler
        _join(device)
    try:
        with losses_named():
            yield
    finally:
        dist.destroy_process_group()


@contextmanager
def losses_named() -> Iterator[None]:
    """Convert torch's error about a lost process to `Stopped` or `PeerFailed`."""
    try:
        yield
    except RuntimeError as error:
        if (
            distributed.world_size() > 1 and signals.Received.number
        ):  # all ranks received the signal, and another one ended first
            raise Stopped(signals.Received.number) from error
        if any(words in str(error) for words in PEER_LOST):
            raise PeerFailed("another process of the job has died; resume from the last checkpoint") from error
        raise


def _join(device: torch.device) -> None:
    backend = "nccl" if device.type == "cuda" else "gloo"
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        dist.init_process_group(backend, timeout=PATIENCE)
        return
    # The launcher's store outlives its workers. After a restart, torch 2.13 read the addresses of the earlier attempt in
    # it and failed with "Connection refused". So each attempt has its own prefix.
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = dist.TCPStore(
        os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), world, is_master=False, timeout=PATIENCE
    )
    attempt = dist.PrefixStore(f"attempt {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    dist.init_process_group(backend, store=attempt, rank=rank, world_size=world, timeout=PATIENCE)


class Engine:
    """Sum of the gradients of a batch's micro-batches over the ranks.

    Args:
        micro_batches: Number of micro-batches; a multiple of the number of ranks.
    """

    def __init__(self, micro_batches: int = 1):
        ranks = distributed.world_size()
        if micro_batches % ranks:
            raise InputError(
                f"{ranks} processes cannot divide {micro_batches} micro-batches: expected a multiple of {ranks}; start a "
                f"run with --optim.groups {ranks * max(1, round(micro_batches / ranks))}, or resume with "
                f"{_largest_divisor(micro_batches, ranks)} processes"
            )
        share = micro_batches // ranks
        self.micro_batches = range(distributed.rank() * share, (distributed.rank() + 1) * share)

    def wrap(self, objective: nn.Module) -> nn.Module:
        """Return the objective, wrapped in DistributedDataParallel if there are several ranks."""
        if distributed.world_size() == 1:
            return objective
        return DistributedDataParallel(objective, forward_sync_buffers=False, gradient_as_bucket_view=True)

    def backward(self, wrapped: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Return a context for the gradients of a micro-batch; only the last micro-batch triggers the all-reduce."""
        if not last and isinstance(wrapped, DistributedDataParallel):
            return wrapped.no_sync()
        return nullcontext()


def _largest_divisor(number: int, below: int) -> int:
    return next(d for d in range(min(number, below), 0, -1) if number % d == 0)
