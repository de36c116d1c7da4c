"""Collective operations among the ranks of one job; with one rank they do nothing.

Every rank calls the same functions in the same order (torchrun, `--devices`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
import torch.distributed as dist
from safetensors.torch import load, save
from torch import Tensor

from kakusan.errors import PeerFailed

Result = TypeVar("Result")


def rank() -> int:
    """Rank of this process, from 0."""
    return dist.get_rank() if _is_initialized() else 0


def world_size() -> int:
    """Number of processes of the job."""
    return dist.get_world_size() if _is_initialized() else 1


def is_rank0() -> bool:
    """Return whether this is rank 0, the only rank that prints and writes."""
    return rank() == 0


def owned_by_rank(number: int) -> bool:
    """Return whether this rank does part `number` of the work; ranks take turns."""
    return number % world_size() == rank()


def all_gather(done: dict[int, dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Return the results of all ranks, in the order of the parts; with several ranks they are on the CPU."""
    if world_size() > 1:
        flat = {f"{number}.{name}": value.cpu() for number, named in done.items() for name, value in named.items()}
        done = {}
        for content in all_gather_bytes(save(flat)):
            for key, value in load(content).items():
                number, _, name = key.partition(".")
                done.setdefault(int(number), {})[name] = value
    return [done[number] for number in sorted(done)]


def broadcast(values: list[float]) -> list[float]:
    """Broadcast the values of rank 0 to every rank."""
    if world_size() == 1:
        return values
    both = torch.tensor(values, dtype=torch.float64, device=_device())
    dist.broadcast(both, src=0)
    return both.tolist()


def all_reduce_sum(values: list[float]) -> list[float]:
    """All-reduce values by summing over the ranks."""
    if world_size() == 1:
        return values
    both = torch.tensor(values, dtype=torch.float64, device=_device())
    dist.all_reduce(both)
    return both.tolist()


def all_gather_bytes(content: bytes) -> list[bytes]:
    """Return the content of every rank, in rank order."""
    if world_size() == 1:
        return [content]
    sizes = [0.0] * world_size()
    sizes[rank()] = float(len(content))
    lengths = [int(size) for size in all_reduce_sum(sizes)]
    padded = torch.zeros(max(1, *lengths), dtype=torch.uint8)
    padded[: len(content)] = torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else padded[:0]
    padded = padded.to(_device())
    gathered = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(gathered, padded)
    return [part[:length].cpu().numpy().tobytes() for part, length in zip(gathered, lengths)]


def barrier() -> None:
    """Wait until all ranks have reached this call."""
    all_reduce_sum([0.0])


def on_rank0(action: Callable[[], Result]) -> Result | None:
    """Run an action on rank 0 while the other ranks wait; they return None, or raise PeerFailed if it fails."""
    if world_size() == 1:
        return action()
    result, failure = _tried(action) if is_rank0() else (None, None)
    _share_failure(failure)
    return result


def _tried(action: Callable[[], Result]) -> tuple[Result | None, BaseException | None]:
    try:
        return action(), None
    except BaseException as error:  # raised again after the other ranks know
        return None, error


def _share_failure(failure: BaseException | None) -> None:
    words = all_gather_bytes(b"" if failure is None else f"{type(failure).__name__}: {failure}".encode())
    if failure is not None:
        raise failure
    for number, said in enumerate(words):
        if said:
            raise PeerFailed(f"rank {number} of the job failed ({said.decode()})")


def _is_initialized() -> bool:
    return dist.is_available() and dist.is_initialized()


def _device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
