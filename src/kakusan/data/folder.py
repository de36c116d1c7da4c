"""A folder of PNG, JPEG, WebP and GIF images as one tensor."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kakusan.console import command, counted
from kakusan.data.cache import Cache, state_of_files
from kakusan.data.dataset import OWN_TEST_PART, RANDOM_TENTH, Dataset, Tell, from_arrays, split_rows
from kakusan.data.labels import of_folder as labels_of_folder
from kakusan.data.labels import tables_of
from kakusan.data.options import ImageOptions
from kakusan.data.scan import SMALLEST, Scan, list_images, read_images
from kakusan.data.sizes import choose_size
from kakusan.errors import InputError, printable

MOST_LINES = 20  # bad files listed in an error; `kakusan data` lists all
MOST_SIZES = 5
SMALL_SIDE = 64  # suggested image side, which trains in minutes
GONE = np.empty(0, np.uint8)


class ImageFolder:
    """Reader of a folder of image files with its subfolders, which may give labels."""

    summary = "a folder of PNG, JPEG, WebP or GIF images"
    options = ("size", "channels", "labels")

    @staticmethod
    def recognizes(path: Path) -> bool:
        """True for any folder."""
        return path.is_dir()

    @staticmethod
    def open(path: Path, options: ImageOptions, whole: bool, tell: Tell | None) -> Dataset:
        """Read every usable image; bad files are refused or skipped, according to the options.

        Raises:
            InputError: If files are bad and not to be skipped, with a note for each of the first ones. Also if the
                images differ in size and no size was given.
        """
        found = Scan()
        names = list_images(path, found)
        chosen = choose_size(path, names) if options.fit and options.size is None else None
        if chosen is not None:
            options = dataclasses.replace(options, size=chosen[0])
            if tell is not None and chosen[1]:
                tell(f"{printable(path.name)}: {chosen[1]}")
        cache = Cache.of(path, options, whole, lambda: state_of_files(path, [*names, *tables_of(path, options.labels)]))

        def convert() -> Dataset:
            return _converted(path, read_images(path, names, found, options, tell, cache), options, whole, tell)

        return convert() if cache is None else cache.open() or cache.made(convert)


def _converted(path: Path, found: Scan, options: ImageOptions, whole: bool, tell: Tell | None) -> Dataset:
    """Return the data set of a scan; bad files are refused, or skipped with a message."""
    if found.bad and options.bad == "refuse":
        raise _refusal(path, found)
    dataset = _dataset_of_scan(path, found, options, whole)
    if found.bad and tell is not None:
        name, reason = next(iter(found.bad.items()))
        tell(f"left out {len(found.bad):,} bad of {found.total:,} files, the first {name} ({reason})")
    return dataset


def _refusal(folder: Path, found: Scan) -> InputError:
    """Error with the number of bad files and what to type, and with a note for each of the first ones."""
    error = InputError(
        f"{printable(str(folder))}: {len(found.bad):,} of {found.total:,} files are not usable images; repair or "
        "remove them, or add --bad-images skip (in Python bad_images='skip')"
    )
    for name, reason in list(found.bad.items())[:MOST_LINES]:
        error.add_note(f"  {name}: {reason}")
    if len(found.bad) > MOST_LINES:
        error.add_note(f"  and {len(found.bad) - MOST_LINES:,} more; {command('data', folder)} lists them all")
    return error


def _dataset_of_scan(folder: Path, found: Scan, options: ImageOptions, whole: bool) -> Dataset:
    """Convert the usable images of a scan to a data set; frees the pixels of the scan."""
    name = printable(folder.name or str(folder))
    if not found.total:
        made = f" ({found.made_here:,} figures or runs of kakusan passed over)" if found.made_here else ""
        raise InputError(
            f"{printable(str(folder))}: expected images (.png, .jpg, .webp or .gif), or IDX files (train-images-idx3-ubyte), "
            f"got {_listing(folder)}{made}"
        )
    if not found.names:
        raise InputError(f"{name}: no usable image among {found.total:,} files")
    if options.size is None and len(found.sizes) > 1:
        raise InputError(f"{name}: images must be of one size, got {_sizes(found)}; type {_suggestion(found)}")
    channels = options.channels or (3 if found.color else 1)
    given = labels_of_folder(folder, found.names, options.labels, 1 if found.parts else 0)
    labels = given.values
    if found.parts:
        tops = [file.split("/", 1)[0] for file in found.names]
        train_rows, test_rows = ([row for row, top in enumerate(tops) if top == part] for part in found.parts)
        if not train_rows or not test_rows:
            raise InputError(
                f"{name}: {' and '.join(map(printable, found.parts))} must both hold images, got {len(train_rows)} and "
                f"{len(test_rows)} usable ones"
            )
        source = OWN_TEST_PART
    elif whole or len(found.names) < 2:
        train_rows, test_rows, source = list(range(len(found.names))), None, ""
    else:
        train_rows, test_rows = (rows.tolist() for rows in split_rows(len(found.names)))
        source = RANDOM_TENTH
    dataset = from_arrays(
        name,
        "images",
        _stack(found, "train", train_rows, channels),
        None if test_rows is None else _stack(found, "test", test_rows, channels),
        labels=None if labels is None else labels[train_rows],
        test_labels=None if labels is None or test_rows is None else labels[test_rows],
        whole=whole,
        source=source,
        certain=True,
    )
    prepared = "; ".join(filter(None, [dataset.prepared, given.note, _preparation(found, options, channels)]))
    return dataclasses.replace(
        dataset,
        prepared=prepared,
        files=found.digest,
        skipped=dict(found.bad),
        contents=_contents(found),
        labeled_by=given.source,
        names=tuple(map(printable, found.names)) if test_rows is None else (),
    )


def _stack(found: Scan, part: str, rows: list[int], channels: int) -> Tensor:
    """Images as uint8 (N, C, H, W); each one is freed after copying, to save memory."""
    if found.stored is not None:
        return found.stored.stack(part, rows, channels)
    images = found.pixels
    stacked = torch.empty((len(rows), channels, *images[rows[0]].shape[1:]), dtype=torch.uint8)
    for place, row in enumerate(rows):
        stacked.numpy()[place] = images[row]  # a gray one fills all channels
        images[row] = GONE
    return stacked


def _contents(found: Scan) -> str:
    colors = f"{found.color:,} in color, {len(found.names) - found.color:,} gray"
    aspects = sorted(width / height for height, width in found.sizes)
    aspect = f"width / height {aspects[0]:.2f} to {aspects[-1]:.2f}; " if len(found.sizes) > 1 else ""
    depth = f"{found.deep:,} of 16 bits, " if found.deep else ""
    return f"{len(found.names):,} images ({colors}, {depth}{found.blended:,} with an alpha channel): {aspect}{_sizes(found)}"


def _preparation(found: Scan, options: ImageOptions, channels: int) -> str:
    """Changes made to the images, in words."""
    done = []
    if options.size is not None and set(found.sizes) != {options.size}:
        height, width = options.size
        done.append(f"cropped in the middle and resized (Lanczos) to {height} x {width} from {_sizes(found)}")
        if found.tiny and min(height, width) >= SMALLEST:
            least = min(found.sizes, key=lambda size: (min(size), size))
            done.append(
                f"{counted(len(found.tiny), 'image')} smaller than {SMALLEST} pixels enlarged, the smallest "
                f"{least[0]} x {least[1]} ({', '.join(map(printable, found.tiny[:2]))})"
            )
    if found.blended:
        done.append(f"{found.blended:,} with an alpha channel put on white")
    if found.stored is not None and found.stored.most == 1:
        done.append("values 0 and 1 taken as black and white (0 and 255)")
    if found.deep:
        done.append(f"{found.deep:,} of 16 bits reduced to their upper 8")
    if found.animated:
        done.append(f"{found.animated:,} animated ones: first frame only")
    gray = len(found.names) - found.color
    if channels >= 3 and gray:
        done.append(f"{gray:,} gray ones as color")
    if channels == 1 and found.color:
        done.append(f"{found.color:,} color ones as gray (ITU-R 601 luma)")
    if found.bad:
        done.append(f"{len(found.bad):,} bad files left out")
    if found.parts:
        done.append(f"only the folders {' and '.join(map(printable, found.parts))} are read")
    if found.others:
        done.append(f"{counted(found.others, 'other file')} passed over")
    if found.made_here:
        done.append(f"{found.made_here:,} figures or runs of kakusan passed over")
    return "; ".join(done)


def _sizes(found: Scan) -> str:
    """The most common sizes, height first."""
    listed = sorted(found.sizes.items(), key=lambda item: (-item[1], item[0]))
    words = [f"{height} x {width} ({count:,})" for (height, width), count in listed[:MOST_SIZES]]
    if len(listed) > MOST_SIZES:
        words.append(f"{len(listed) - MOST_SIZES:,} other sizes")
    return ", ".join(words)


def _suggestion(found: Scan) -> str:
    """Suggested --size: the most common shorter side, or a small side that trains quickly."""
    sides: Counter[int] = Counter()
    for size, count in found.sizes.items():
        sides[min(size)] += count
    return f"--size {min(SMALL_SIDE, sides.most_common(1)[0][0])}"


def _listing(folder: Path) -> str:
    """The first names in a folder."""
    names = sorted(printable(path.name) for path in folder.iterdir())
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "") or "an empty folder"
