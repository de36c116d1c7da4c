"""Options for folders of images; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from kakusan.errors import InputError, shown
from kakusan.settings import Between, Length, check

LONGEST_SIDE = 4096  # pixels
CHOICES = ("folders", "none")  # values of --labels other than a path
Side = Annotated[int, Between(1, LONGEST_SIDE)]


@dataclass(frozen=True)
class ImageOptions:
    """Options that turn the images of a folder into one array."""

    size: tuple[Side, Side] | None = None
    """Height and width to crop and resize to (default: the images' own, if all agree)."""
    channels: Annotated[int, Between(1, 4)] | None = None
    """1 for gray, 3 for color, 4 for color with alpha (default: 3 unless every image is gray)."""
    bad: Literal["refuse", "skip"] = "refuse"
    """Action for files that are not usable images."""
    fit: bool = False
    """Choose a size of at most 64 from the images if none is given."""
    cache: str | None = None
    """Folder for data that are larger than memory (default: none; such data are refused)."""
    labels: str | None = None
    """Labels. folders: class subfolders. none: no labels. A column of a table. PATH: a .csv file with name and label, or a .json file of such pairs. Default: automatic."""

    columns: Annotated[str, Length(1, 200_000)] | None = None
    """Types of columns of a table, e.g. age=integer,id=skip (default: from their values)."""

    def __post_init__(self) -> None:
        check(self, "pictures")
        if self.channels == 2:
            raise InputError("images have 1 channel (gray), 3 (color) or 4 (color with alpha), got 2")

    def given(self) -> list[str]:
        """Names of the options that change the images."""
        return [name for name in ("size", "channels") if getattr(self, name) is not None]


def size_named(words: str | None) -> tuple[int, int] | None:
    """Parse "64" or "48x40" into (height, width)."""
    if words is None:
        return None
    sides = words.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdigit() and len(side) <= 9 for side in sides):
        raise InputError(
            f"--size is one number for square images or height x width, e.g. 64 or 48x40, got {shown(words)}"
        )
    return int(sides[0]), int(sides[-1])
