"""Arrays of images or counts, in memory or from `.npy` and `.npz` files."""

from __future__ import annotations

import dataclasses
import math
import os
import zipfile
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from kakusan.data import splits
from kakusan.data.cache import CACHE_FROM
from kakusan.data.dataset import Dataset, Tell, from_arrays
from kakusan.data.forms.images import CHANNELS
from kakusan.data.numeric import is_series, series_of, table_of_array
from kakusan.data.options import ImageOptions
from kakusan.errors import InputError, printable
from kakusan.storage.files import open_regular

MOST_COUNTED = 2**53  # largest sum of a row; float64 holds every whole number up to here
SHARE_OF_MEMORY = 0.5  # largest share of the machine's memory that data may take
PHOTO_SIDE = 16  # pixels: an array (H, W, 3) from this size on is one photograph
FLATTENED = "flattened images belong into x.reshape(n, height, width)"


class ArrayFile:
    """Reader of a `.npy` file, or of a `.npz` file with one array or a training and a test array."""

    summary = "a .npy or .npz file of images, counts, a table or series"
    options = ("columns",)

    @staticmethod
    def recognizes(path: Path) -> bool:
        """True for the endings .npy and .npz."""
        return path.suffix.lower() in (".npy", ".npz") and not path.is_dir()

    @staticmethod
    def open(path: Path, options: ImageOptions, whole: bool, tell: Tell | None) -> Dataset:
        """Return the data set of the file's arrays, with labels if an array is named like labels."""
        try:
            with open_regular(path) as file:
                if options.cache and path.suffix.lower() == ".npy" and path.stat().st_size > CACHE_FROM:
                    from kakusan.data.large_array import open_large

                    if (dataset := open_large(path, options, whole, tell)) is not None:
                        return dataset
                if path.suffix.lower() == ".npy":
                    array = _read_array(file, path)
                    return dataset_of(printable(path.name), array, whole=whole, columns=options.columns)
                return _read_archive(file, path, whole, options.columns)
        except (InputError, OSError):
            raise
        except Exception as error:  # numpy and zipfile raise many kinds of errors for a damaged file
            raise InputError(
                f"{path}: expected a .npy or .npz file of numbers; this file is damaged or has another format ({_reason(error)})"
            ) from error


def _reason(error: Exception) -> str:
    if "magic string" in str(error) or "Object arrays" in str(error):
        return "it holds Python objects, or is not an array"
    return " ".join(str(error).split())[:100] or type(error).__name__


def _read_array(file: IO[bytes], where: Path | str) -> np.ndarray:
    """Read one array in numpy's format after checking the size in its header against memory."""
    room = memory_for_data()
    if (size := file.seek(0, os.SEEK_END)) > room:
        raise InputError(f"{where}: {size / 2**30:,.0f} GiB do not fit into half of this machine's memory; save fewer")
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def memory_for_data() -> float:
    """Largest size of data in bytes, half of this machine's memory; infinite if the memory is unknown."""
    try:
        return SHARE_OF_MEMORY * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return math.inf


def _read_archive(file: IO[bytes], path: Path, whole: bool, columns: str | None) -> Dataset:
    with zipfile.ZipFile(file) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if (total := sum(info.file_size for info in members.values())) > memory_for_data():
            raise InputError(f"{path}: {total / 2**30:,.0f} GiB unpacked do not fit into half of this machine's memory")
        arrays: dict[str, np.ndarray] = {}

        def array(name: str) -> np.ndarray:
            if name not in arrays:
                with archive.open(members[name]) as member:
                    arrays[name] = np.lib.format.read_array(member, allow_pickle=False)
            return arrays[name]

        names = list(members)
        data = [name for name in names if not splits.is_label(name)]
        pair = splits.pair(data, str(path))
        if pair is None and len(data) > 1:  # labels are one number per example
            data = [name for name in data if array(name).ndim > 1]
        if pair is None and len(data) != 1:
            raise InputError(
                f"{path}: expected one array, or arrays named train_images and test_images, "
                f"got {', '.join(map(printable, names[:8])) or 'none'}"
            )
        chosen = list(pair or data)
        labels = [_labels(name, len(array(name)), [n for n in names if n not in chosen], array) for name in chosen]
        used = {*chosen, *(name for name, _ in filter(None, labels))}
        left_out = [printable(name) for name in names if name not in used]
        dataset = dataset_of(
            printable(path.name),
            *(array(name) for name in chosen),
            labels=labels[0][1] if labels[0] else None,
            test_labels=labels[1][1] if len(labels) > 1 and labels[0] and labels[1] else None,
            whole=whole,
            columns=columns,
        )
    if not left_out:
        return dataset
    words = "; ".join(filter(None, [dataset.prepared, f"arrays not used: {', '.join(left_out[:8])}"]))
    return dataclasses.replace(dataset, prepared=words)


def _labels(data: str, length: int, names: list[str], array) -> tuple[str, np.ndarray] | None:
    """Name and values of the labels of an array, one whole number or text per example; None without labels."""
    part = splits.part_of(data)
    for name in names:
        if splits.part_of(name) != part:
            continue
        labels = array(name)
        flat = labels.reshape(-1)
        if len(flat) == length == len(labels) and labels.dtype.kind in "iubU":
            return name, flat
    return None


def dataset_of(
    name: str,
    train: np.ndarray,
    test: np.ndarray | None = None,
    *,
    labels: np.ndarray | None = None,
    test_labels: np.ndarray | None = None,
    whole: bool = False,
    columns: str | None = None,
) -> Dataset:
    """Data set of uint8 or bool images (N, H, W[, C]) or (N, C, H, W), counts (N, K), a table (N, K) or series (N, L, C).

    Whole numbers from 0 are counts, unless types of columns are given. Other numbers (N, K) are a table.
    """
    kind = kind_of_array(name, train, columns)
    convert = {"images": _images, "counts": _counts, "series": series_of}.get(kind)
    if convert is None:
        return table_of_array(name, train, test, columns, whole, labels=labels, test_labels=test_labels)
    if test is not None and (other := kind_of_array(name, test, columns)) != kind:
        raise InputError(f"{name}: training and test arrays must be of one kind, got {kind} and {other}")
    converted = convert(name, train), None if test is None else convert(name, test)
    return from_arrays(name, kind, *converted, labels=labels, test_labels=test_labels, whole=whole)


def kind_of_array(name: str, array: np.ndarray, columns: str | None = None) -> str:
    """Form of an array by its shape and values: "images", "counts", "tables" or "series"; InputError for others."""
    shape = array.shape
    if is_series(array):
        return "series"
    if array.ndim == 2 and array.dtype.kind in "iuf" and (columns is not None or not _counted(array)):
        return "tables"
    if array.ndim == 3 and shape[2] in (3, 4) and min(shape[:2]) >= PHOTO_SIDE:
        raise InputError(
            f"{name}: shape {shape} is one image of {shape[2]} channels; expected many images, (N, H, W, C)"
        )
    if array.ndim in (3, 4):
        if array.dtype not in (np.uint8, np.bool):
            raise InputError(f"{name}: images must be uint8 from 0 to 255, got {array.dtype}; {_advice(array)}")
        return "images"
    if array.ndim == 2:
        return "counts"
    raise InputError(
        f"{name}: expected images (N, H, W), (N, H, W, C) or counts (N, K), got shape {shape} of {array.dtype}"
    )


def _counted(array: np.ndarray) -> bool:
    """True for whole numbers that are not negative."""
    return array.dtype.kind == "u" or bool(((array >= 0) & (array == np.floor(array))).all())


def _advice(array: np.ndarray) -> str:
    """Advice on saving an array of numbers as pixels, from its values."""
    if array.dtype.kind not in "iuf" or not array.size:
        return "save numbers from 0 to 255 with .astype('uint8')"
    if not np.isfinite(array).all():
        return "it holds NaN or infinite values, which no pixel has"
    low, high = array.min(), array.max()
    if low < 0:
        scaling = "(127.5 * (x + 1))" if low >= -1 and high <= 1 else f"((x - {low:g}) * (255 / {high - low:g}))"
    elif high <= 1:
        scaling = "(255 * x)"
    else:
        scaling = "x" if 128 <= high <= 255 else f"(x * (255 / {high:g}))"
    ends = "[-1, 1]" if "127.5" in scaling else "[0, 1]" if high <= 1 else f"[{min(low, 0):g}, {high:g}]"
    return f"if black to white is {ends}, save {scaling.replace('- -', '+ ')}.round().astype('uint8')"


def _images(name: str, array: np.ndarray) -> Tensor:
    array = channels_second(name, array)
    if math.prod(array.shape[1:]) < 2:
        raise InputError(f"{name}: an image must have at least two values, got shape {array.shape}")
    return torch.from_numpy(
        np.array(array, dtype=np.uint8, order="C")
    )  # a copy, because the bytes of a file are read-only


def channels_second(name: str, array: np.ndarray) -> np.ndarray:
    """View of images (N, H, W), (N, H, W, C) or (N, C, H, W) as (N, C, H, W)."""
    if array.ndim == 3:
        return array[:, None]
    if array.shape[3] in CHANNELS:
        return array.transpose(0, 3, 1, 2)
    if array.shape[1] not in CHANNELS:
        raise InputError(f"{name}: expected 1, 3 or 4 channels in the last or second axis, got shape {array.shape}")
    return array


def _counts(name: str, array: np.ndarray) -> Tensor:
    if array.dtype.kind not in "iuf":
        raise InputError(f"{name}: an array (N, K) must hold counts, got {array.dtype}; {FLATTENED}")
    if array.shape[1] < 2:
        raise InputError(f"{name}: counts need K >= 2 categories, got shape {array.shape}")
    bad = ~((array >= 0) & (array == np.round(array)) & np.isfinite(array))
    if bad.any():
        row, column = (int(index[0]) for index in bad.nonzero())
        value = array[row, column]
        raise InputError(
            f"{name}: an array (N, K) must hold counts, whole numbers >= 0, got {value} in row {row}, column {column}; "
            f"{FLATTENED}"
        )
    counts = array.astype(np.float64)
    large = counts.sum(1) > MOST_COUNTED
    if large.any():
        row = int(large.argmax())
        raise InputError(
            f"{name}: the counts of a row may add up to at most {MOST_COUNTED:,}, got {counts[row].sum():,.0f} in row {row}"
        )
    return torch.from_numpy(counts)
