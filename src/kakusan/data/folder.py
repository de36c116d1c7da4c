"""A folder of PNG, JPEG and WebP pictures as one tensor, looked through before training."""

from __future__ import annotations

import dataclasses
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kakusan.data.dataset import Dataset, from_arrays
from kakusan.data.idx import listing
from kakusan.data.options import Pictures
from kakusan.data.scan import PARTS, Say, Scan, scan
from kakusan.errors import InputError, printable

MOST_LINES = 20  # of bad files, in an error; `kakusan data` lists all
MOST_SIZES = 5
SMALL_SIDE = 64  # a side that trains in minutes, to suggest
GONE = np.empty(0, np.uint8)


def read_picture_folder(folder: Path, wanted: Pictures, say: Say | None = None) -> Dataset:
    """Every usable picture; bad ones are refused, or left out with a warning, as wanted.

    Raises:
        InputError: If there are bad files and none are to be skipped, with a note for each of the first; or if the
            pictures do not agree in size and none was wanted.
    """
    found = scan(folder, wanted, say)
    if found.bad and wanted.bad == "refuse":
        raise refusal(folder, found)
    dataset = dataset_of_scan(folder, found, wanted)
    if found.bad:
        name, reason = next(iter(found.bad.items()))
        warnings.warn(
            f"left out {len(found.bad):,} bad of {found.total:,} files, the first {name} ({reason}); kakusan data lists all",
            stacklevel=2,
        )
    return dataset


def refusal(folder: Path, found: Scan) -> InputError:
    """How many files are bad, and what to do; with a note for each of the first."""
    error = InputError(
        f"{printable(str(folder))}: {len(found.bad):,} of {found.total:,} files are no usable pictures; mend or remove "
        "them, or train without them by --bad-images skip"
    )
    for name, reason in list(found.bad.items())[:MOST_LINES]:
        error.add_note(f"  {name}: {reason}")
    if len(found.bad) > MOST_LINES:
        error.add_note(f"  and {len(found.bad) - MOST_LINES:,} more; kakusan data lists them all")
    return error


def dataset_of_scan(folder: Path, found: Scan, wanted: Pictures) -> Dataset:
    """The usable pictures of a scan, whose pixels are given up to it."""
    name = printable(folder.name)
    if not found.total:
        raise InputError(
            f"{printable(str(folder))}: expected pictures (.png, .jpg or .webp), or IDX files (train-images-idx3-ubyte), "
            f"got {printable(listing(folder))}"
        )
    if not found.names:
        raise InputError(f"{name}: no usable picture among {found.total:,} files")
    if wanted.size is None and len(found.sizes) > 1:
        raise InputError(f"{name}: pictures must be of one size, got {sizes(found)}; type {suggestion(found)}")
    channels = wanted.channels or (3 if found.colour else 1)
    count, cut = len(found.names), 0
    if found.parts:
        cut = sum(file.startswith(f"{PARTS[1]}/") for file in found.names)  # in the order of names test is before train
        if not 0 < cut < count:
            raise InputError(f"{name}: train and test must both hold pictures, got {count - cut} and {cut} usable ones")
    train = _stack(found.pixels, range(cut, count), channels)
    test = _stack(found.pixels, range(cut), channels) if found.parts else None
    dataset = from_arrays(name, "images", train, test)
    return dataclasses.replace(
        dataset, prepared=preparation(found, wanted, channels), files=found.digest, skipped=dict(found.bad)
    )


def _stack(pictures: list[np.ndarray], rows: range, channels: int) -> Tensor:
    """uint8 (N, C, H, W); each picture is let go as it is copied, so that memory holds them once."""
    whole = torch.empty((len(rows), channels, *pictures[rows[0]].shape[1:]), dtype=torch.uint8)
    for place, row in enumerate(rows):
        whole.numpy()[place] = pictures[row]  # a grey one fills all channels
        pictures[row] = GONE
    return whole


def preparation(found: Scan, wanted: Pictures, channels: int) -> str:
    """What was done to the pictures, in words."""
    done = []
    if wanted.size is not None and set(found.sizes) != {wanted.size}:
        height, width = wanted.size
        done.append(f"cropped in the middle and resized (Lanczos) to {height} x {width} from {sizes(found)}")
    if found.blended:
        done.append(f"white behind the {found.blended:,} with an alpha channel")
    grey = len(found.names) - found.colour
    if channels == 3 and grey:
        done.append(f"{grey:,} grey ones as colour")
    if channels == 1 and found.colour:
        done.append(f"{found.colour:,} colour ones as grey (ITU-R 601 luma)")
    if found.bad:
        done.append(f"{len(found.bad):,} bad files left out")
    if found.parts:
        done.append("the folders train and test alone are read")
    if found.others:
        done.append(f"{found.others:,} other files passed over")
    return "; ".join(done)


def sizes(found: Scan) -> str:
    """The commonest sizes, height first."""
    listed = sorted(found.sizes.items(), key=lambda item: (-item[1], item[0]))
    words = [f"{height} x {width} ({count:,})" for (height, width), count in listed[:MOST_SIZES]]
    if len(listed) > MOST_SIZES:
        words.append(f"{len(listed) - MOST_SIZES:,} other sizes")
    return ", ".join(words)


def suggestion(found: Scan) -> str:
    """A flag that makes the pictures agree: their commonest shorter side, if it is small enough to train quickly."""
    sides: Counter[int] = Counter()
    for size, count in found.sizes.items():
        sides[min(size)] += count
    return f"--size {min(SMALL_SIDE, sides.most_common(1)[0][0])}"
