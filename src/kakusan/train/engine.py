"""One process or many: the same training on torch's own distributed engine.

One process starts no process group. Several hold copies of the weights and average gradients (DDP), or hold a part
of every weight each (`shard`, FSDP2). Whatever depends on a whole tensor, a gradient's norm or an orthogonalised
step, is computed from the whole tensor on every process, so that both come to the same bits as one process does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, TypeGuard

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kakusan import distributed, signals
from kakusan.errors import InputError, PeerFailed, Stopped

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

PEER_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")  # in gloo's words
PATIENCE = timedelta(minutes=30)  # for the slowest process, which may be measuring or saving


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """The group that torchrun or `--devices` promised in the environment; none for one process."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    with signals.left_to_the_system():  # waiting for the others is no work to save, and cannot hear a handler
        _join(device)
    try:
        with losses_named():
            yield
    finally:
        dist.destroy_process_group()


@contextmanager
def losses_named() -> Iterator[None]:
    """Torch's words about a process that has gone, as what happened: `Stopped` or `PeerFailed`."""
    try:
        yield
    except RuntimeError as error:
        if distributed.world_size() > 1 and signals.Received.number:  # all were asked to leave, and another was quicker
            raise Stopped(signals.Received.number) from error
        if any(words in str(error) for words in PEER_LOST):
            raise PeerFailed("another process of the job has died; go on from the last checkpoint") from error
        raise


def _join(device: torch.device) -> None:
    backend = "nccl" if device.type == "cuda" else "gloo"
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        dist.init_process_group(backend, timeout=PATIENCE)
        return
    # The launcher's store outlives its workers, and torch 2.13 reads there where the processes of an earlier attempt
    # were to be found (seen: "Connection refused" after a restart): each attempt gets names of its own.
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = dist.TCPStore(
        os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), world, is_master=False, timeout=PATIENCE
    )
    attempt = dist.PrefixStore(f"attempt {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    dist.init_process_group(backend, store=attempt, rank=rank, world_size=world, timeout=PATIENCE)


class Engine:
    """How the gradients of a batch's groups come together.

    Args:
        groups: Slices of the batch; a multiple of the number of processes.
        shard: Keep a part of every weight on each process instead of a copy.
    """

    def __init__(self, groups: int = 1, shard: bool = False):
        self.shard = shard and distributed.world_size() > 1
        if groups % distributed.world_size():
            raise InputError(
                f"{distributed.world_size()} processes share {groups} groups of a batch: expected a multiple of {distributed.world_size()}; "
                f"start a run with --optim.groups {distributed.world_size() * max(1, round(groups / distributed.world_size()))}, or go on "
                f"with {_largest_divisor(groups, distributed.world_size())} processes"
            )
        share = groups // distributed.world_size()
        self.groups = range(distributed.rank() * share, (distributed.rank() + 1) * share)

    def wrap(self, objective: nn.Module) -> nn.Module:
        """The objective, to be called in place of itself; with `shard` its parameters become parts of themselves."""
        if distributed.world_size() == 1:
            return objective
        if not self.shard:
            return DistributedDataParallel(objective, forward_sync_buffers=False, gradient_as_bucket_view=True)
        from torch.distributed.fsdp import fully_shard

        for parameter in objective.parameters():  # parts are cut from plain memory
            parameter.data = parameter.data.contiguous()
        fully_shard(objective)
        return objective

    def backward(self, wrapped: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Around a group's gradients, which meet those of other processes at the last group alone."""
        if self.shard:
            wrapped.set_requires_gradient_sync(last)  # type: ignore[operator]
        elif not last and isinstance(wrapped, DistributedDataParallel):
            return wrapped.no_sync()
        return nullcontext()


def in_parts(tensor: Tensor) -> TypeGuard[DTensor]:
    """Whether several processes hold it together.

    None do before torch's module for it was loaded, which takes a second that most commands need not spend.
    """
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def whole(tensor: Tensor) -> Tensor:
    """A tensor that may be held in parts, in one piece; all processes must ask together."""
    return tensor.full_tensor() if in_parts(tensor) else tensor


def part(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor, sharing its memory."""
    return tensor.to_local() if in_parts(tensor) else tensor


def cut(content: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, held as `like` is: in parts, each process keeping its own, or as it is."""
    if not in_parts(like):
        return content
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(content, like.device_mesh, like.placements, src_data_rank=None)


def gradient_norm(parameters: list[nn.Parameter]) -> Tensor:
    """Euclidean norm of all gradients, the same bits however they are held."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if any(in_parts(gradient) for gradient in gradients):  # whole ones one at a time
        norms = [torch.linalg.vector_norm(whole(gradient)) for gradient in gradients]
    else:
        norms = torch._foreach_norm(gradients)
    return torch.linalg.vector_norm(torch.stack(norms))


def any_not_finite(tensors: list[Tensor], one: Tensor) -> Tensor:
    """1 if any number of them that this process holds is NaN or infinite, 0 otherwise; one pass over them.

    Half the price of a norm where nothing else is asked of it; a finite number whose square overflows passes.

    Args:
        tensors: To look at.
        one: The number, on their device: made anew at each step it would cost as much as a small tensor's check.
    """
    if in_parts(tensors[0]):
        tensors = [part(tensor) for tensor in tensors]
    found = torch.zeros_like(one)
    # torch's own pass for mixed precision: it looks, and multiplies by one, which leaves every bit as it is
    torch._amp_foreach_non_finite_check_and_unscale_(tensors, found, one)
    return found


def _largest_divisor(number: int, below: int) -> int:
    return next(d for d in range(min(number, below), 0, -1) if number % d == 0)
