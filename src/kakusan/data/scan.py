"""Looking at every picture of a folder before training: what is there, and which files are bad and why."""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kakusan.data.options import Pictures
from kakusan.data.picture import read_picture
from kakusan.data.unusable import Unusable
from kakusan.errors import InputError, printable

ENDINGS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp")
# Pictures too, in the eyes of whoever made the folder: said to be unusable, where a text file is passed over
OTHER_ENDINGS = (".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".tga", ".apng", ".ppm")
PARTS = ("train", "test")
SHARE_OF_MEMORY = 0.5  # of the machine's, that pixels may take
SPEAK_SECONDS = 5.0
Say = Callable[[str], None]


@dataclass
class Scan:
    """What a folder holds. Names are relative to the folder, with / between their parts."""

    names: list[str] = field(default_factory=list)  # of the usable pictures, in the order of `pixels`
    pixels: list[np.ndarray] = field(default_factory=list)  # uint8 (1 or 3, H, W); none if sizes differ
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)  # (height, width) in the files
    colour: int = 0  # pictures with colour in the file; the others are grey
    blended: int = 0  # pictures with an alpha channel, which have white behind them now
    bad: dict[str, str] = field(default_factory=dict)  # the reason of each, by its printable name
    others: int = 0  # files that no one would take for pictures
    parts: bool = False  # the folder holds the folders train and test, and only these were looked at
    digest: str = ""  # SHA-256 over the names, lengths and contents of the usable files

    @property
    def total(self) -> int:
        """Files that are pictures or should be."""
        return len(self.names) + len(self.bad)


def is_picture(name: str) -> bool:
    """Whether a file is one to whoever named it."""
    return name.lower().endswith(ENDINGS + OTHER_ENDINGS)


def scan(folder: Path, wanted: Pictures, say: Say | None = None) -> Scan:
    """Read every picture in a folder and the folders in it, in the order of their names.

    Args:
        folder: If there are folders `train` and `test` in it, these alone are read.
        wanted: Size and channels.
        say: Told every few seconds how far the scan is.

    Raises:
        InputError: If the pixels would not fit into memory.
    """
    found = Scan()
    files = _list(folder, found)
    digest = hashlib.sha256()
    spoken = time.monotonic()
    room = _room()
    for index, name in enumerate(files):
        if say is not None and time.monotonic() - spoken > SPEAK_SECONDS:
            say(f"{printable(folder.name)}: {index:,} of {len(files):,} pictures looked at")
            spoken = time.monotonic()
        try:
            picture = read_picture(folder / name, wanted)
        except Unusable as reason:
            found.bad[printable(name)] = printable(str(reason))
            continue
        found.names.append(name)
        found.sizes[picture.size] += 1
        found.colour += picture.colour
        found.blended += picture.blended
        digest.update(f"{len(os.fsencode(name))} {picture.num_bytes} {picture.digest} ".encode() + os.fsencode(name))
        if wanted.size is None and len(found.sizes) > 1:
            found.pixels.clear()  # they will be refused; the rest is looked at to name all that is bad
            continue
        found.pixels.append(picture.pixels)
        room -= picture.pixels.nbytes
        if room < 0:
            height, width = picture.pixels.shape[1:]
            raise InputError(
                f"{printable(folder.name)}: {len(files):,} pictures of {height} x {width} do not fit into half of this "
                f"machine's memory; use smaller ones, e.g. --size {max(1, min(height, width) // 2)}"
            )
    found.bad = dict(sorted(found.bad.items()))
    found.digest = digest.hexdigest()
    return found


def _room() -> float:
    """Bytes of pixels that this machine can hold."""
    return SHARE_OF_MEMORY * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _list(folder: Path, found: Scan) -> list[str]:
    """Names of all files to be read, sorted; what is bad or no picture goes into `found`."""
    found.parts = all((folder / part).is_dir() for part in PARTS)
    files: list[str] = []
    waiting = list(PARTS) if found.parts else [""]
    while waiting:  # not by recursion: folders may lie deeper than Python's stack
        inside = waiting.pop()
        try:
            with os.scandir(folder / inside) as entries:
                content = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        except OSError as error:
            found.bad[printable(inside or ".")] = f"a folder that cannot be read ({error.strerror or error})"
            continue
        for name, is_folder in content:
            path = f"{inside}/{name}" if inside else name
            if name.startswith("."):
                continue  # hidden: what file managers and version control leave
            if is_folder:
                waiting.append(path)
            elif (folder / path).is_dir():
                # Followed, a link could lead round in a circle, or through the whole disk
                found.bad[printable(path)] = "a link to a folder, which is not followed; put the folder itself there"
            elif name.lower().endswith(ENDINGS):
                files.append(path)
            elif name.lower().endswith(OTHER_ENDINGS):
                ending = printable(os.path.splitext(name)[1].lower())
                found.bad[printable(path)] = f"{ending} is not read; save it as PNG, JPEG or WebP"
            else:
                found.others += 1
    return sorted(files)
