"""Reading and writing of weights in safetensors files. A file is read only after its header has been checked.

A file has three parts: the length of the header in 8 bytes, the header as JSON, and the bytes of the tensors without
gaps. The safetensors library accepts headers of 100 MB, which take a gigabyte to read, and does not detect flipped bits.
Source: the format's description at https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as serialise
from torch import Tensor

from kakusan.errors import InputError, shown
from kakusan.storage import files, records

Expected = Mapping[str, tuple[tuple[int, ...], torch.dtype]]  # name -> shape, dtype

MOST_HEADER_BYTES = 1024 * 1024
MOST_TENSORS = 20_000
MOST_DIMENSIONS = 8
LENGTH_BYTES = 8
NAME = re.compile(r"[A-Za-z0-9_.]{1,256}", re.ASCII)
METADATA = "__metadata__"
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
}


@dataclass(frozen=True)
class Entry:
    """One tensor of a file; begin and end are byte offsets from the start of the data."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """Checked header of a file, with the tensors in the order of their bytes."""

    entries: dict[str, Entry]
    metadata: dict[str, str]
    data_start: int


def header(path: Path) -> Header:
    """Read, check and return the header of a file; InputError if it is invalid."""
    with _open(path) as file:
        return _header(file, path)


def read(
    path: Path, expected: Expected | Callable[[Header], Expected] | None = None, device: torch.device | str = "cpu"
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the metadata of a file. Nothing is allocated before the header has been checked.

    Args:
        path: A .safetensors file.
        expected: Exact names, shapes and dtypes, or a function that returns them from the header; default: any.
        device: Device of the tensors.

    Raises:
        InputError: If the file exceeds our limits, is not valid safetensors, is incomplete, not as expected, or not finite.
    """
    with _open(path) as file:
        head = _header(file, path)
        if expected is not None:
            wanted = expected(head) if callable(expected) else expected
            check_expected({name: (e.shape, e.dtype) for name, e in head.entries.items()}, wanted, path)
        tensors = {name: _read_one(file, name, entry, path) for name, entry in head.entries.items()}
    check_finite(tensors, path)
    return {name: tensor.to(device) for name, tensor in tensors.items()}, head.metadata


def to_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Return the content of a file for `read`; InputError for a name that `read` would reject, or a non-finite number."""
    for name in tensors:
        _check_name(name, "these tensors")
    check_finite(tensors, "these tensors")
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = serialise(plain, dict(metadata) if metadata else None)
    return _ordered(content) if len(metadata or ()) > 1 else content


def _ordered(content: bytes) -> bytes:
    """Return the same file with its metadata in alphabetical order, because safetensors writes them in random order."""
    start = 8 + int.from_bytes(content[:8], "little")
    table = json.loads(content[8:start])
    table[METADATA] = dict(sorted(table[METADATA].items()))
    header = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[start:]


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over names and bytes; two models with the same digest have the same weights."""
    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        total.update(name.encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()


def check_expected(found: Expected, expected: Expected, where: Any) -> None:
    """Raise InputError that names the first difference, unless both have the same names, shapes and dtypes."""
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    if missing or extra:
        words = [
            f"{len(names)} {what}, e.g. {names[0]}"
            for names, what in ((missing, "missing"), (extra, "too many"))
            if names
        ]
        raise InputError(f"{where}: not the tensors of the model it describes ({'; '.join(words)})")
    for name, (shape, dtype) in expected.items():
        if found[name] != (shape, dtype):
            raise InputError(
                f"{where}: {name} must be {_kind(dtype)} of shape {shape} for the model it describes, "
                f"got {_kind(found[name][1])} of shape {found[name][0]}"
            )


def check_finite(tensors: Mapping[str, Tensor], where: Any) -> None:
    """Raise InputError that names the first tensor with NaN or infinity, if there is one."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise InputError(f"{where}: {name} holds numbers that are not finite; the model cannot be used")


def _open(path: Path) -> BufferedReader:
    try:
        return files.open_regular(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); expected a .safetensors file") from error


def _header(file: BufferedReader, path: Path) -> Header:
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(LENGTH_BYTES), "little")
    if size < LENGTH_BYTES or length > size - LENGTH_BYTES:
        raise InputError(
            f"{path}: not a complete safetensors file; it has {size:,} bytes, and its header alone should have {length:,}"
        )
    if length > MOST_HEADER_BYTES:
        raise InputError(f"{path}: the header may have at most {MOST_HEADER_BYTES:,} bytes, got {length:,}")
    table = records.parse(file.read(length), f"{path}: the header", MOST_HEADER_BYTES)
    if not isinstance(table, dict):
        raise InputError(f"{path}: the header must be a table of tensors, got {shown(table)}")
    metadata = table.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise InputError(f"{path}: the header's metadata must be a table of texts, got {shown(metadata)}")
    if len(table) > MOST_TENSORS:
        raise InputError(f"{path}: a file may hold at most {MOST_TENSORS:,} tensors, got {len(table):,}")
    entries = {name: _entry(name, values, path) for name, values in table.items()}
    ordered = dict(sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)))
    end = 0
    for name, entry in ordered.items():
        if entry.begin != end:
            raise InputError(f"{path}: the bytes of {name} must begin at {end:,}, where those before it end")
        end = entry.end
    start = LENGTH_BYTES + length
    if size != start + end:
        raise InputError(f"{path}: must have {start + end:,} bytes by its header, got {size:,}; fetch it again")
    return Header(ordered, metadata, start)


def _entry(name: str, values: Any, path: Path) -> Entry:
    """Check and return an entry of the header."""
    _check_name(name, path)
    if not isinstance(values, dict) or values.keys() != {"dtype", "shape", "data_offsets"}:
        raise InputError(f"{path}: {name} must have dtype, shape and data_offsets, got {shown(values)}")
    dtype, shape, offsets = values["dtype"], values["shape"], values["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise InputError(f"{path}: the dtype of {name} must be one of {', '.join(DTYPES)}, got {shown(dtype)}")
    if not _whole_numbers(shape) or len(shape) > MOST_DIMENSIONS:
        raise InputError(f"{path}: the shape of {name} must be up to {MOST_DIMENSIONS} sizes, got {shown(shape)}")
    if not _whole_numbers(offsets) or len(offsets) != 2:
        raise InputError(f"{path}: the offsets of {name} must be two positions, got {shown(offsets)}")
    begin, end = offsets
    if end - begin != math.prod(shape) * DTYPES[dtype].itemsize:
        raise InputError(f"{path}: {name} has {shown(end - begin)} bytes, which do not fit {dtype} {shown(shape)}")
    return Entry(DTYPES[dtype], tuple(shape), begin, end)


def _whole_numbers(values: Any) -> bool:
    """Return whether a value is a list of whole numbers that fit into 64 bits."""
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**63 for value in values)


def _check_name(name: str, where: Any) -> None:
    if not NAME.fullmatch(name):
        raise InputError(f"{where}: a tensor's name is 1 to 256 of A-Z a-z 0-9 _ and ., got {shown(name)}")


def _read_one(file: BufferedReader, name: str, entry: Entry, path: Path) -> Tensor:
    num = entry.end - entry.begin
    try:
        raw = torch.empty(num, dtype=torch.uint8)
    except (RuntimeError, MemoryError) as error:
        raise InputError(f"{path}: there is no memory for the {num:,} bytes of {name}") from error
    if file.readinto(raw.numpy().data) != num:
        raise InputError(f"{path}: it ends within {name}, though it was long enough when it was opened")
    return raw.view(entry.dtype).reshape(entry.shape)


def _kind(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
