"""Arrays of images or counts, in memory or from `.npy` and `.npz` files."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kakusan.data.dataset import Dataset, Kind, from_arrays
from kakusan.errors import InputError

TRAIN_NAMES = ("train_images", "x_train", "train")
TEST_NAMES = ("test_images", "x_test", "test")
CHANNELS = (1, 3, 4)
MOST_COUNTED = 2**53  # of a row: up to here float64 counts every one


def read_array_file(path: Path) -> Dataset:
    """`.npy` holds one array; `.npz` one, or a training and a test array under the usual names."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return dataset_of(path.name, loaded)
        with loaded:
            train, test = _pick(path, loaded.files)
            return dataset_of(path.name, loaded[train], None if test is None else loaded[test])
    except InputError:
        raise
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        # numpy takes any other file for pickled objects, and says how to run them
        reason = (
            "it is no such file, or holds Python objects"
            if "pickle" in str(error)
            else f"numpy cannot read it ({error})"
        )
        raise InputError(f"{path}: expected a .npy or .npz file of numbers; {reason}") from error


def _pick(path: Path, names: list[str]) -> tuple[str, str | None]:
    """Which array of a .npz is for training and which is held out."""
    train = [name for name in TRAIN_NAMES if name in names]
    test = [name for name in TEST_NAMES if name in names]
    if train:
        return train[0], test[0] if test else None
    if len(names) == 1:
        return names[0], None
    raise InputError(
        f"{path}: expected one array, or arrays named {TRAIN_NAMES[0]} and {TEST_NAMES[0]}, got {', '.join(names) or 'none'}"
    )


def dataset_of(name: str, train: np.ndarray, test: np.ndarray | None = None) -> Dataset:
    """uint8 (N, H, W[, C]) or (N, C, H, W) are images, whole numbers (N, K) are counts."""
    kind = _kind(name, train)
    convert = _images if kind == "images" else _counts
    if test is not None and _kind(name, test) != kind:
        raise InputError(f"{name}: training and test arrays must be of one kind, got {train.dtype} and {test.dtype}")
    return from_arrays(name, kind, convert(name, train), None if test is None else convert(name, test))


def _kind(name: str, array: np.ndarray) -> Kind:
    if array.ndim in (3, 4):
        if array.dtype != np.uint8:
            raise InputError(f"{name}: images must be uint8 from 0 to 255, got {array.dtype}; {_advice(array)}")
        return "images"
    if array.ndim == 2:
        return "counts"
    raise InputError(
        f"{name}: expected images (N, H, W), (N, H, W, C) or counts (N, K), got shape {array.shape} of {array.dtype}"
    )


def _advice(array: np.ndarray) -> str:
    """How to save an array of numbers as pixels, from what is in it."""
    if array.dtype.kind not in "iuf" or not array.size:
        return "save numbers from 0 to 255 with .astype('uint8')"
    if not np.isfinite(array).all():
        return "it holds NaN or infinite values, which no pixel has"
    low, high = array.min(), array.max()
    if low >= 0 and high <= 1 and array.dtype.kind == "f":
        return "for values in [0, 1] save (255 * x).round().astype('uint8')"
    if low >= 0 and high <= 255:
        return "for values in [0, 255] save x.round().astype('uint8')"
    return f"its values run from {low:g} to {high:g}: scale them to [0, 255], then save x.round().astype('uint8')"


def _images(name: str, array: np.ndarray) -> Tensor:
    if array.ndim == 3:
        array = array[:, None]
    elif array.shape[3] in CHANNELS:
        array = array.transpose(0, 3, 1, 2)
    elif array.shape[1] not in CHANNELS:
        raise InputError(f"{name}: expected 1, 3 or 4 channels, last or second, got shape {array.shape}")
    if math.prod(array.shape[1:]) < 2:
        raise InputError(f"{name}: images must have two numbers or more, got shape {array.shape}")
    return torch.from_numpy(np.array(array, order="C"))  # a copy: a file's bytes cannot be written to


def _counts(name: str, array: np.ndarray) -> Tensor:
    if array.dtype.kind not in "iuf":
        raise InputError(f"{name}: counts must be numbers, got {array.dtype}")
    if array.shape[1] < 2:
        raise InputError(f"{name}: counts need K >= 2 categories, got shape {array.shape}")
    bad = ~((array >= 0) & (array == np.round(array)) & np.isfinite(array))
    if bad.any():
        row, column = (int(index[0]) for index in bad.nonzero())
        raise InputError(
            f"{name}: counts must be whole numbers >= 0, got {array[row, column]} in row {row}, column {column}"
        )
    counts = array.astype(np.float64)
    large = counts.sum(1) > MOST_COUNTED
    if large.any():
        row = int(large.argmax())
        raise InputError(
            f"{name}: the counts of a row may add up to {MOST_COUNTED:,}, got {counts[row].sum():,.0f} in row {row}"
        )
    return torch.from_numpy(counts)
