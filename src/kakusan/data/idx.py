"""Folders of IDX files: the format of MNIST, Fashion-MNIST and their relatives, plain or gzipped."""

from __future__ import annotations

import dataclasses
import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from kakusan.data.arrays import dataset_of, memory_for_data
from kakusan.data.dataset import Dataset, Tell
from kakusan.data.options import ImageOptions
from kakusan.data.scan import is_image
from kakusan.errors import InputError, printable
from kakusan.storage.files import open_regular

UNSIGNED_BYTE = 0x08
IMAGES_NDIM = 3
LABELS_NDIM = 1
TEST_PREFIXES = ("t10k", "test")


class IDXFolder:
    """Reader of a folder with the file `train-images*`, and optionally a test part and labels."""

    summary = "a folder of IDX files (train-images-idx3-ubyte)"
    options = ()

    @staticmethod
    def recognizes(path: Path) -> bool:
        """True if there is a file `train-images*` that is not an image file."""
        return path.is_dir() and any(
            file.name.startswith("train-images") and file.is_file() and not is_image(file.name)
            for file in path.iterdir()
        )

    @staticmethod
    def open(path: Path, options: ImageOptions, whole: bool, tell: Tell | None) -> Dataset:
        """Return the data set of the images, with labels if there is one for each image."""
        train, labels, note = _read_part(path, ("train",))
        test, test_labels, test_note = _read_part(path, TEST_PREFIXES)
        assert train is not None, "recognizes() found it"
        name = printable(path.name)
        dataset = dataset_of(name, train, test, labels=labels, test_labels=test_labels, whole=whole)
        prepared = "; ".join(filter(None, [dataset.prepared, note, test_note]))
        return dataclasses.replace(dataset, prepared=prepared)


def read_idx(path: Path, ndim: int = IMAGES_NDIM) -> np.ndarray:
    """Read one IDX file of unsigned bytes: images (N, H, W) or labels (N,).

    Raises:
        InputError: If the file has no IDX header, or another length than its header states.
    """
    try:
        with open_regular(path) as raw, gzip.open(raw) if path.suffix == ".gz" else raw as file:
            head = file.read(4 + 4 * ndim)
            if len(head) < 4 or head[:2] != b"\0\0" or head[2] != UNSIGNED_BYTE:
                raise InputError(
                    f"{path}: expected an IDX file of unsigned bytes (first bytes 0, 0, 8), got {list(head[:3])}"
                )
            shape = tuple(int.from_bytes(head[i : i + 4], "big") for i in range(4, len(head), 4))
            size = math.prod(shape)
            if size > memory_for_data():
                raise InputError(f"{path}: shape {shape} does not fit into half of this machine's memory")
            content = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read as an IDX file ({error})") from error
    if head[3] != ndim or len(content) != size:
        what = "images (N, H, W)" if ndim == IMAGES_NDIM else "labels (N)"
        raise InputError(
            f"{path}: expected {what} and their bytes, got {head[3]} dimensions, shape {shape} and "
            f"{'more' if len(content) > size else f'{len(content):,}'} bytes of data"
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def _read_part(folder: Path, prefixes: tuple[str, ...]) -> tuple[np.ndarray | None, np.ndarray | None, str]:
    """Read the images and labels of the files with one of these prefixes; add a note if their numbers differ."""
    images = _find(folder, tuple(f"{prefix}-images" for prefix in prefixes))
    labels = _find(folder, tuple(f"{prefix}-labels" for prefix in prefixes))
    if images is None:
        return None, None, ""
    pixels = read_idx(images)
    values = None if labels is None else read_idx(labels, LABELS_NDIM)
    if labels is None or values is None or len(values) == len(pixels):
        return pixels, values, ""
    return pixels, None, f"{printable(labels.name)} left out: {len(values):,} labels for {len(pixels):,} images"


def _find(folder: Path, prefixes: tuple[str, ...]) -> Path | None:
    matches = sorted(path for path in folder.iterdir() if path.name.startswith(prefixes) and not is_image(path.name))
    return matches[0] if matches else None
