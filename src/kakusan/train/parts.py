"""Tensors that several processes hold in parts: each writes its own file, and reading puts them together again.

`ema.0-of-2.safetensors` and `ema.1-of-2.safetensors` hold consecutive rows of the same tensors; what is not held in
parts stands in the first alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from kakusan import distributed
from kakusan.train.engine import in_parts, part

PART = re.compile(r"(?P<stem>\w+)\.(?P<number>\d+)-of-(?P<count>\d+)")


def own(tensors: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """What this process writes, by file and name; `tensors` as they are held."""
    if not any(in_parts(tensor) for named in tensors.values() for tensor in named.values()):
        return {stem: dict(named) for stem, named in tensors.items()} if distributed.is_rank0() else {}
    mine = {}
    for stem, named in tensors.items():
        held = {name: part(tensor) for name, tensor in named.items() if in_parts(tensor) or distributed.is_rank0()}
        if any(in_parts(tensor) for tensor in named.values()):
            mine[f"{stem}.{distributed.rank()}-of-{distributed.world_size()}"] = held
        elif held:
            mine[stem] = held
    return mine


def files_of(stem: str, names: Iterable[str]) -> list[str]:
    """Those of the files, without their ending, that hold this one: itself, or its parts in their order."""
    matches = [match for match in map(PART.fullmatch, names) if match and match["stem"] == stem]
    return [match[0] for match in sorted(matches, key=lambda match: int(match["number"]))] or [stem]


def together(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Whole tensors from the contents of all files of one stem."""
    first, *others = parts
    return {
        name: torch.cat([tensor, *(other[name] for other in others)]) if others and name in others[0] else tensor
        for name, tensor in first.items()
    }
