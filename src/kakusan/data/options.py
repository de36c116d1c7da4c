"""What a person may ask of a folder of pictures. No torch here: the command line and recipes read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from kakusan.errors import InputError, shown
from kakusan.settings import Between, check

LONGEST_SIDE = 4096  # pixels
Side = Annotated[int, Between(1, LONGEST_SIDE)]


@dataclass(frozen=True)
class Pictures:
    """How the pictures of a folder become one array; other kinds of data take no such wishes."""

    size: tuple[Side, Side] | None = None
    """Height and width to crop and resize to; the pictures' own, if they all agree, unless given."""
    channels: Annotated[int, Between(1, 3)] | None = None
    """1 for grey, 3 for colour; 3 unless every picture is grey."""
    bad: Literal["refuse", "skip"] = "refuse"
    """What to do about files that are no usable pictures."""

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
