"""Data larger than memory: 8-bit images converted once to files that the system maps into memory.

A cache is a folder with one file of raw bytes for each part of the data, and a record. It belongs to one source, one
choice of size and channels, and one state of the source's files. Its content is checked by SHA-256 when it is opened.
Mapped pages belong to the system's page cache, which takes them back when memory is short.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from kakusan.console import command
from kakusan.data.dataset import Dataset, Tell
from kakusan.data.options import ImageOptions
from kakusan.errors import InputError, printable
from kakusan.storage import files, records

NAME = "data-cache"  # name of the folder of caches, inside the folder of runs
CACHE_FROM = 2**30  # bytes of pixels; smaller data stay in memory
RECORD, FORMAT = "cache.json", 1
MOST_RECORD = 2**27  # largest size of a record in bytes; a record names every image
WHITE = 255
ROWS = 4096  # images copied at a time
TELL_SECONDS = 5.0


class Written(Exception):
    """Error raised when another process has completed the cache in the meantime."""


class Cache:
    """The cache of one source in a folder of caches.

    Args:
        root: Folder of caches.
        source: File or folder of the data.
        options: Size, channels and what to do about bad files.
        whole: True if nothing is held out.
        state: Hash of the state of the source's files.
    """

    def __init__(self, root: Path, source: Path, options: ImageOptions, whole: bool, state: str):
        chosen = [options.size, options.channels, options.bad, options.labels, whole]
        key = hashlib.sha256(json.dumps([str(source), chosen]).encode()).hexdigest()[:16]
        self.source, self.state, self.folder, self.partial = str(source), state, root / key, root / f"{key}.partial"
        self._lock = FileLock(root / f"{key}.lock")
        self._pixels: StoredPixels | None = None  # while the cache is being written

    @classmethod
    def of(cls, source: Path, options: ImageOptions, whole: bool, state: Callable[[], str]) -> Cache | None:
        """Return the cache of a source in the folder `options.cache`, or None without such a folder."""
        return cls(Path(options.cache), source, options, whole, state()) if options.cache else None

    def open(self) -> Dataset | None:
        """Return the cached data set, or None if there is none for the present state of the source's files.

        Raises:
            InputError: If the content is not what was written.
        """
        if (record := self._record()) is None:
            return None
        fields, shapes = record["dataset"], record["shapes"]
        parts = {name: mapped(self.folder / f"{name}.u8", tuple(shape)) for name, shape in shapes.items()}
        for name in record["labels"]:
            fields[name] = torch.from_numpy(np.load(self.folder / f"{name}.npy"))
        fields |= {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        train = parts["train"]
        dataset = Dataset(train=train, test=parts.get("test", train), **fields)
        if dataset.digest() != record["digest"]:
            raise InputError(
                f"{self.folder} is damaged: its SHA-256 is not the recorded one; delete it with: "
                f"{command('data', self.source, '--forget', '--cache', self.folder.parent)}"
            )
        return dataset

    def made(self, convert: Callable[[], Dataset]) -> Dataset:
        """Return the data set of `convert`; if that stored pixels here, complete the cache and open it."""
        try:
            dataset = convert()
            if self._pixels is not None:
                self._save(dataset)
                dataset = self.open() or dataset
            return dataset
        except Written:
            dataset = self.open()
            assert dataset is not None, "just found"
            return dataset
        finally:
            if self._pixels is not None:
                self._pixels.close()
                shutil.rmtree(self.partial, ignore_errors=True)
            self._lock.release()

    def start(self, shape: tuple[int, ...]) -> StoredPixels:
        """Return a store for images of this shape, after removing the files of an interrupted process.

        Raises:
            Written: If another process has written them in the meantime.
        """
        files.make_folders(self.folder.parent)
        self._lock.acquire()
        if self._record() is not None:
            raise Written
        shutil.rmtree(self.partial, ignore_errors=True)
        files.make_folders(self.partial)
        self._pixels = StoredPixels(self.partial, shape)
        return self._pixels

    def _record(self) -> dict[str, Any] | None:
        if not os.path.lexists(self.folder / RECORD):
            return None
        record = _read_record(self.folder / RECORD)
        return record if (record.get("format"), record.get("state")) == (FORMAT, self.state) else None

    def _save(self, dataset: Dataset) -> None:
        """Complete the cache of a data set whose parts `StoredPixels` has written."""
        assert self._pixels is not None, "start() comes first"
        self._pixels.close()
        values = {field.name: getattr(dataset, field.name) for field in dataclasses.fields(dataset)}
        parts = {"train": values.pop("train"), "test": values.pop("test")}
        labels = {name: value for name, value in values.items() if isinstance(value, Tensor)}
        for name, value in labels.items():
            np.save(self.partial / f"{name}.npy", value.numpy())
        if parts["test"] is parts["train"]:
            del parts["test"]
        record = {
            "format": FORMAT,
            "source": self.source,
            "state": self.state,
            "shapes": {name: list(part.shape) for name, part in parts.items()},
            "labels": list(labels),
            "dataset": {name: value for name, value in values.items() if name not in labels},
            "digest": dataset.digest(),
        }
        files.write(self.partial / RECORD, json.dumps(record).encode())
        shutil.rmtree(self.folder, ignore_errors=True)  # a cache of an earlier state of the files
        files.rename(self.partial, self.folder)


class StoredPixels:
    """Temporary file of all images in the order of reading; the parts of the data are copied from it.

    Args:
        folder: Folder of the files.
        shape: (C, H, W), with C = 3 for images of 1 and of 3 channels.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...]):
        self.folder, self.shape, self.count, self.most = folder, shape, 0, 0
        self._path = folder / "all.u8"
        self._file = self._path.open("wb", buffering=files.MIB)

    def append(self, image: np.ndarray) -> None:
        """Append one image of shape (1, H, W) or (C, H, W); one channel is repeated to C channels."""
        image = np.broadcast_to(image, self.shape)
        self.most = max(self.most, int(image.max()))
        self._file.write(image.tobytes())
        self.count += 1

    def stack(self, part: str, rows: Iterable[int], channels: int) -> Tensor:
        """Write these rows to a file of their own and return it as a mapped tensor, uint8 (n, channels, H, W).

        If all values are 0 and 1, they become 0 and 255.
        """
        rows, scale = np.asarray(list(rows), dtype=np.int64), WHITE if self.most == 1 else 1
        self._file.flush()
        everything = np.memmap(self._path, np.uint8, "r", shape=(self.count, *self.shape))
        with (self.folder / f"{part}.u8").open("wb") as file:
            for start in range(0, len(rows), ROWS):
                file.write((everything[rows[start : start + ROWS], :channels] * np.uint8(scale)).tobytes())
            file.flush()
            os.fsync(file.fileno())
        return mapped(self.folder / f"{part}.u8", (len(rows), channels, *self.shape[1:]))

    def close(self) -> None:
        """Delete the temporary file of all images."""
        self._file.close()
        self._path.unlink(missing_ok=True)


def mapped(path: Path, shape: tuple[int, ...]) -> Tensor:
    """Map a file of raw bytes into memory as a read-only uint8 tensor of this shape."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(np.memmap(path, np.uint8, "r", shape=shape))


def _read_record(path: Path) -> dict[str, Any]:
    """Read the record of a cache; InputError if the file is not one."""
    try:
        content = files.read_regular(path, MOST_RECORD, follow=False)
    except OSError as error:
        raise InputError(f"{printable(str(path))} cannot be read ({error.strerror}); delete its folder") from error
    record = records.parse(content, printable(str(path)), MOST_RECORD)
    if not isinstance(record, dict):
        raise InputError(f"{printable(str(path))} is not the record of a cache; delete its folder")
    return record


def state_of_files(folder: Path, names: list[str]) -> str:
    """SHA-256 over the names, sizes and modification times of files, in hexadecimal."""
    digest = hashlib.sha256()
    for name in names:
        try:
            status = (folder / name).stat()
        except OSError:  # the scan reports this file
            digest.update(f"{name}\0unreadable\n".encode("utf-8", "surrogateescape"))
            continue
        digest.update(f"{name}\0{status.st_size} {status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def forget(root: Path, source: Path) -> int:
    """Delete the caches of a source; return the number of freed bytes."""
    freed = 0
    for record in sorted(root.glob(f"*/{RECORD}")):
        if _read_record(record).get("source") == str(source):
            freed += sum(file.stat().st_size for file in record.parent.iterdir())
            shutil.rmtree(record.parent)
    return freed


class Ticker:
    """Progress of a long conversion, written every few seconds."""

    def __init__(self, tell: Tell | None, name: str, total: int):
        self.tell, self.name, self.total, self.told = tell, printable(name), total, time.monotonic()

    def __call__(self, done: int) -> None:
        """Write the number of converted images, at most once every few seconds."""
        if self.tell is not None and time.monotonic() - self.told > TELL_SECONDS:
            self.tell(f"{self.name}: {done:,} of {self.total:,} images converted")
            self.told = time.monotonic()
