"""Scan of every image in a folder before training, with the bad files and their reasons."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kakusan.data import splits
from kakusan.data.arrays import memory_for_data
from kakusan.data.cache import CACHE_FROM, Cache, StoredPixels, Ticker
from kakusan.data.dataset import Tell
from kakusan.data.image_file import DecodedImage, MadeHere, Unusable, read_image
from kakusan.data.options import ImageOptions
from kakusan.errors import InputError, printable

ENDINGS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".apng")
# image formats that are reported as unusable; other files, such as text, are skipped silently
OTHER_ENDINGS = (".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".tga", ".ppm")
CONVERT = "save it as PNG, e.g. Image.open(f).convert('RGB').save('x.png') with Pillow"
SMALLEST = 8  # pixels; a smaller image that is enlarged shows almost nothing
RUN_RECORD = "run.json"  # marks a run directory, whose figures are not data


@dataclass
class Scan:
    """Contents of a folder, with names relative to it and "/" as separator."""

    names: list[str] = field(default_factory=list)  # names of the usable images, in the order of `pixels`
    pixels: list[np.ndarray] = field(default_factory=list)  # uint8 (C, H, W); none if sizes differ, or if stored
    stored: StoredPixels | None = None  # the pixels, if they are too many for memory
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)  # (height, width) in the files
    tiny: list[str] = field(default_factory=list)  # names of images with a side below `SMALLEST`
    color: int = 0  # images with color in the file; the others are gray
    blended: int = 0  # images with an alpha channel that were put on white
    deep: int = 0  # images of 16 bits a channel, of which the upper 8 are kept
    animated: int = 0  # animations, of which the first frame is kept
    bad: dict[str, str] = field(default_factory=dict)  # the reason of each, by its printable name
    others: int = 0  # files whose names are not those of images
    made_here: int = 0  # images that this library made, and run directories
    parts: tuple[str, str] | None = None  # folders for training and for testing; nothing else is read
    digest: str = ""  # SHA-256 over the names, lengths and contents of the usable files

    def add(self, name: str, image: DecodedImage) -> None:
        """Count a usable image."""
        self.names.append(name)
        self.sizes[image.size] += 1
        if min(image.size) < SMALLEST:
            self.tiny.append(name)
        self.color += image.color
        self.blended += image.blended
        self.deep += image.deep
        self.animated += image.animated

    def store(self, cache: Cache) -> None:
        """Move the pixels from memory to a cache, whose images have 3 channels until all are known to be gray."""
        channels, *size = self.pixels[0].shape
        self.stored = cache.start((max(3, channels), *size))
        for image in self.pixels:
            self.stored.append(image)
        self.pixels.clear()

    @property
    def total(self) -> int:
        """Number of files that are images by name."""
        return len(self.names) + len(self.bad)


def is_image(name: str) -> bool:
    """Recognize an image by the ending of its name."""
    return name.lower().endswith(ENDINGS + OTHER_ENDINGS)


def scan(folder: Path, options: ImageOptions, tell: Tell | None = None, cache: Cache | None = None) -> Scan:
    """Read every image in a folder and its subfolders, in the order of their names.

    Args:
        folder: If it has folders for training and for testing, these alone are read.
        options: Size and channels.
        tell: Called every few seconds with the progress.
        cache: Where to store pixels that are too many for memory.

    Raises:
        InputError: If the pixels would not fit into memory, and there is no cache.
    """
    found = Scan()
    return read_images(folder, list_images(folder, found), found, options, tell, cache)


def read_images(
    folder: Path, names: list[str], found: Scan, options: ImageOptions, tell: Tell | None, cache: Cache | None = None
) -> Scan:
    """Read the named images of a folder into `found` and return it; other arguments as in `scan`."""
    digest = hashlib.sha256()
    tick, size_known = Ticker(tell, folder.name, len(names)), options.size is not None
    used, room = 0, memory_for_data()
    for index, name in enumerate(names):
        tick(index)
        try:
            image = read_image(folder / name, options)
        except MadeHere:
            found.made_here += 1
            continue
        except Unusable as reason:
            found.bad[printable(name)] = printable(str(reason))
            continue
        found.add(name, image)
        digest.update(f"{len(os.fsencode(name))} {image.num_bytes} {image.digest} ".encode() + os.fsencode(name))
        if not size_known and len(found.sizes) > 1:
            found.pixels.clear()  # they will be refused; the others are read to report all bad files
            continue
        used += image.pixels.nbytes
        if found.stored is None and cache is not None and used > CACHE_FROM:
            found.store(cache)
        if found.stored is not None:
            found.stored.append(image.pixels)
            continue
        found.pixels.append(image.pixels)
        if used > room:
            height, width = image.pixels.shape[1:]
            raise InputError(
                f"{printable(folder.name)}: {len(names):,} images of {height} x {width} do not fit into half of this "
                f"machine's memory; use smaller ones, e.g. --size {max(1, min(height, width) // 2)}"
            )
    found.bad = dict(sorted(found.bad.items()))
    found.digest = digest.hexdigest()
    return found


def list_images(folder: Path, found: Scan) -> list[str]:
    """Sorted names of all files to read; bad files and other files are recorded in `found`."""
    tops = [name for name in os.listdir(folder) if os.path.isdir(folder / name)]
    found.parts = splits.pair(tops, str(folder))
    files: list[str] = []
    waiting = list(found.parts) if found.parts else [""]
    while waiting:  # no recursion, because folders may be nested deeper than Python's stack allows
        inside = waiting.pop()
        try:
            with os.scandir(folder / inside) as entries:
                content = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        except OSError as error:
            found.bad[printable(inside or ".")] = f"a folder that cannot be read ({error.strerror or error})"
            continue
        if (RUN_RECORD, False) in content:
            found.made_here += 1
            continue
        for name, is_folder in content:
            path = f"{inside}/{name}" if inside else name
            if name.startswith("."):
                continue  # hidden files of file managers and version control
            if is_folder:
                waiting.append(path)
            elif os.path.isdir(folder / path):
                # a link could form a loop or lead through the whole disk
                found.bad[printable(path)] = "a link to a folder, which is not followed; put the folder itself there"
            elif name.lower().endswith(ENDINGS):
                files.append(path)
            elif name.lower().endswith(OTHER_ENDINGS):
                ending = printable(os.path.splitext(name)[1].lower())
                found.bad[printable(path)] = f"{ending} is not read; {CONVERT}"
            else:
                found.others += 1
    return sorted(files, key=lambda name: (unicodedata.normalize("NFC", name), name))
