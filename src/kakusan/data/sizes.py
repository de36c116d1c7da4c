"""Choice of one size for the images of a folder, from the headers of a sample of its files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import median

from kakusan.data.image_file import Unusable, read_size

MOST_READ = 1_000  # files, evenly spaced in the order of their names
LARGEST_SHORT_SIDE = 64  # pixels: larger images need hours on a CPU
SMALLEST_SIDE = 8  # pixels
SHARE_OF_ONE_SHAPE = 0.9  # share of files with one aspect ratio from which on it is kept
TOLERANCE = 0.03  # relative difference of aspect ratios that count as one


def choose_size(folder: Path, names: list[str]) -> tuple[tuple[int, int], str] | None:
    """Choose a size (height, width) for these files; return it with the reason in words, or None without files.

    The shorter side is the median of the shorter sides, at most 64. The aspect ratio is kept if nine tenths of the files
    share it; otherwise the size is square. The reason is empty if all files already have one small size.
    """
    step = max(1, len(names) // MOST_READ)
    sizes = []
    for name in names[::step]:
        try:
            sizes.append(read_size(folder / name))
        except Unusable:
            continue  # the scan names it
    if not sizes:
        return None
    typical = round(median(min(size) for size in sizes))
    if len(set(sizes)) == 1 and typical <= LARGEST_SHORT_SIDE:
        return sizes[0], ""
    short = max(SMALLEST_SIDE, min(typical, LARGEST_SHORT_SIDE))
    tall, wide = _aspect(sizes)
    size = round(short * tall), round(short * wide)
    limited = f", limited to {LARGEST_SHORT_SIDE}" if typical > LARGEST_SHORT_SIDE else ""
    return size, f"size {size[0]} x {size[1]}: the median shorter side is {typical}{limited}; --size sets another"


def _aspect(sizes: list[tuple[int, int]]) -> tuple[float, float]:
    """Height and width divided by the shorter side if nearly all images share them; otherwise 1 and 1."""
    (height, width), _ = Counter(sizes).most_common(1)[0]
    alike = sum(abs(h * width / (w * height) - 1) <= TOLERANCE for h, w in sizes)
    if alike < SHARE_OF_ONE_SHAPE * len(sizes):
        return 1.0, 1.0
    return height / min(height, width), width / min(height, width)
