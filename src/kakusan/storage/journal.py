"""Append-only file of JSON lines. An incomplete last line is dropped; a damaged line is reported and skipped."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kakusan.errors import DamageWarning, InputError
from kakusan.storage import files, records

MOST_BYTES = 16 * files.MIB
MOST_DAMAGED = 100  # largest number of damaged lines


def append(path: Path, line: dict[str, Any]) -> None:
    """Append one line and sync the file."""
    if path.exists() and not files.ends_in_newline(path):  # a crash or a full disk left the last line incomplete
        files.replace(path, b"".join(one for one in _lines(path) if one.endswith(b"\n")))
    files.append(path, _encoded(line))


def read(path: Path, check: Callable[[Any, str], dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the complete lines of a file; a missing file has none. Lines that `check` rejects cause a DamageWarning.

    Args:
        path: The file.
        check: (value, its name in messages) -> the line; raises InputError for a damaged line.

    Raises:
        InputError: If too many lines are damaged.
    """
    found, damaged = [], []
    for number, line in enumerate(_lines(path), 1):
        if not line.endswith(b"\n"):
            continue
        try:
            found.append(check(records.parse(line, "it"), "it"))
        except InputError as error:
            damaged.append(f"line {number} of {path} is damaged and left out ({error})")
            if len(damaged) > MOST_DAMAGED:
                raise InputError(f"{path} is damaged: {damaged[0]}, and {MOST_DAMAGED} more lines are") from error
    if damaged:
        more = f"; so are {len(damaged) - 1} more" if len(damaged) > 1 else ""
        warnings.warn(damaged[0] + more, DamageWarning, stacklevel=2)
    return found


def replace(path: Path, lines: list[dict[str, Any]]) -> None:
    """Replace all lines of a file by these."""
    files.replace(path, b"".join(map(_encoded, lines)))


def _lines(path: Path) -> Iterator[bytes]:
    try:
        return iter(io.BytesIO(files.read_regular(path, MOST_BYTES, follow=False)))
    except FileNotFoundError:
        return iter(())


def _encoded(line: dict[str, Any]) -> bytes:
    return (json.dumps(line) + "\n").encode()
