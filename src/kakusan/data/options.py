"""Options for a folder of images. Imports no torch, so that help is instant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from kakusan.errors import InputError, shown
from kakusan.settings import Between, check

LONGEST_SIDE = 4096  # pixels
Side = Annotated[int, Between(1, LONGEST_SIDE)]


@dataclass(frozen=True)
class Pictures:
    """Options that turn the images of a folder into one array."""

    size: tuple[Side, Side] | None = None
    """Height and width to crop and resize to. Default: the images' own size, if they all agree."""
    channels: Annotated[int, Between(1, 3)] | None = None
    """Number of channels: 1 for gray, 3 for color. Default: 3, or 1 if every image is gray."""
    bad: Literal["refuse", "skip"] = "refuse"
    """Action for files that are not usable images."""

    def __post_init__(self) -> None:
        check(self, "pictures")
        if self.channels == 2:
            raise InputError("pictures have 1 channel (grey) or 3 (colour), got 2")

    @property
    def plain(self) -> bool:
        """Whether nothing was asked for that only a folder of pictures can give."""
        return self.size is None and self.channels is None


def size_named(words: str | None) -> tuple[int, int] | None:
    """ "64" or "48x40", height first, as (height, width)."""
    if words is None:
        return None
    sides = words.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdigit() and len(side) <= 9 for side in sides):
        raise InputError(
            f"--size is one number for square pictures or height x width, e.g. 64 or 48x40, got {shown(words)}"
        )
    return int(sides[0]), int(sides[-1])
