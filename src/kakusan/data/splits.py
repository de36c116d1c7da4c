"""Conventional names of training parts, held-out parts and labels in folders and arrays."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from kakusan.errors import InputError, printable

TRAIN = ("train", "training")
HELD_OUT = ("test", "testing", "val", "valid", "validation", "dev", "heldout")  # the first one found is used
LABELS = ("y", "label", "labels", "target", "targets", "class", "classes")


def words_of(name: str) -> list[str]:
    """Lower-case words of a name: "x_Train" and "xTrain" have the words x and train."""
    return re.findall(r"[a-z]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).lower())


def part_of(name: str) -> Literal["train", "test"] | None:
    """Part that a name denotes, ignoring case; None if neither."""
    words = words_of(name.replace("held_out", "heldout").replace("held-out", "heldout"))
    if any(word in TRAIN for word in words):
        return "train"
    return "test" if any(word in HELD_OUT for word in words) else None


def is_label(name: str) -> bool:
    """Recognize the name of an array of labels."""
    return any(word in LABELS for word in words_of(name))


def pair(names: Iterable[str], where: str) -> tuple[str, str] | None:
    """Return the names of the training part and of the held-out part, or None if either is missing.

    Raises:
        InputError: If two names denote the training part.
    """
    names = sorted(names)
    train = [name for name in names if part_of(name) == "train"]
    held_out = sorted((name for name in names if part_of(name) == "test"), key=_preference)
    if not train or not held_out:
        return None
    if len(train) > 1:
        raise InputError(f"{where}: expected one training part, got {', '.join(map(printable, train))}; rename one")
    return train[0], held_out[0]


def _preference(name: str) -> int:
    return min((HELD_OUT.index(word) for word in words_of(name) if word in HELD_OUT), default=len(HELD_OUT))
