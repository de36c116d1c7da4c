"""Process groups and gradient averaging over the ranks of a job, by torch's DistributedDataParallel.

One process starts no process group. Several ranks hold copies of the weights and average the gradients.
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
PATIENCE = timedelta(minutes=30)  # for the slowest rank, which may be evaluating or saving


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the process group that torchrun or `--devices` announced in the environment; none for one process."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    with signals.left_to_the_system():  # a rank that waits for the others has nothing to save and runs no handler
        _join(device)
    try:
        with losses_named():
            yield
    finally:
        dist.destroy_process_group()


@contextmanager
def losses_named() -> Iterator[None]:
    """Raise `Stopped` or `PeerFailed` in place of torch's errors about a rank that has gone."""
    try:
        yield
    except RuntimeError as error:
        if (
            distributed.world_size() > 1 and signals.Received.number
        ):  # all ranks were asked to stop, and another was faster
            raise Stopped(signals.Received.number) from error
        if any(words in str(error) for words in PEER_LOST):
            raise PeerFailed("another process of the job has died; resume from the last checkpoint") from error
        raise


def _join(device: torch.device) -> None:
    backend = "nccl" if device.type == "cuda" else "gloo"
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        dist.init_process_group(backend, timeout=PATIENCE)
        return
    # The launcher's store outlives its workers. After a restart torch 2.13 reads addresses of the earlier attempt there
    # ("Connection refused"), so each attempt gets a prefix of its own.
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
                f"the number of micro-batches must be a multiple of the {ranks} ranks, got {micro_batches}; start a run "
                f"with --optim.groups {ranks * max(1, round(micro_batches / ranks))}, or resume with "
                f"{_largest_divisor(micro_batches, ranks)} processes"
            )
        share = micro_batches // ranks
        self.micro_batches = range(distributed.rank() * share, (distributed.rank() + 1) * share)

    def wrap(self, objective: nn.Module) -> nn.Module:
        """The objective, wrapped so that its gradients are averaged over the ranks."""
        if distributed.world_size() == 1:
            return objective
        return DistributedDataParallel(objective, forward_sync_buffers=False, gradient_as_bucket_view=True)

    def backward(self, wrapped: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Context for the backward pass of a micro-batch; gradients are averaged after the last one only."""
        if not last and isinstance(wrapped, DistributedDataParallel):
            return wrapped.no_sync()
        return nullcontext()


def _largest_divisor(number: int, below: int) -> int:
    return next(d for d in range(min(number, below), 0, -1) if number % d == 0)
