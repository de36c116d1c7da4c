"""Folders of IDX files: the format of MNIST, Fashion-MNIST and their relatives, plain or gzipped."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from kakusan.data.arrays import dataset_of
from kakusan.data.dataset import Dataset
from kakusan.data.scan import is_picture
from kakusan.errors import InputError

UNSIGNED_BYTE = 0x08
IMAGES_NDIM = 3


def has_idx(folder: Path) -> bool:
    """Whether a folder's pictures are in an IDX file, and not each in a file of its own."""
    return any(
        path.name.startswith("train-images") and path.is_file() and not is_picture(path.name)
        for path in folder.iterdir()
    )


def read_idx_folder(folder: Path) -> Dataset:
    """Takes `train-images*` and, if there, `t10k-images*` or `test-images*`."""
    train = _find(folder, ("train-images",))
    if train is None:
        raise InputError(f"{folder}: expected a file train-images-idx3-ubyte (or .gz), got {listing(folder)}")
    test = _find(folder, ("t10k-images", "test-images"))
    return dataset_of(folder.name, read_idx(train), None if test is None else read_idx(test))


def read_idx(path: Path) -> np.ndarray:
    """One IDX file of unsigned bytes.

    Raises:
        InputError: If the header is not IDX, or the length is not what it announces.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read as an IDX file ({error})") from error
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] != UNSIGNED_BYTE:
        raise InputError(f"{path}: expected an IDX file of unsigned bytes (first bytes 0, 0, 8), got {list(raw[:3])}")
    ndim = raw[3]
    start = 4 + 4 * ndim
    shape = tuple(int.from_bytes(raw[i : i + 4], "big") for i in range(4, start, 4))
    if ndim != IMAGES_NDIM or len(raw) != start + math.prod(shape):
        raise InputError(
            f"{path}: expected images (N, H, W) and their bytes, got shape {shape} and {len(raw) - start:,} bytes of data"
        )
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def _find(folder: Path, prefixes: tuple[str, ...]) -> Path | None:
    matches = sorted(path for path in folder.iterdir() if path.name.startswith(prefixes))
    return matches[0] if matches else None


def listing(folder: Path) -> str:
    """What lies in a folder, shortly."""
    names = sorted(path.name for path in folder.iterdir())
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "") or "an empty folder"
