"""Strict JSON for files from outside: size, keys and numbers are checked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from kakusan.errors import InputError, shown

MOST_BYTES = 64 * 1024


def parse(content: bytes | str, what: str, most_bytes: int = MOST_BYTES) -> Any:
    """Parse and return a JSON text.

    Args:
        content: UTF-8 without a byte-order mark.
        what: Its name in messages, e.g. "run.json".
        most_bytes: Largest size; longer texts are not parsed.

    Raises:
        InputError: If it is too long, nested too deeply, not JSON, or contains a repeated key or a non-finite number.
    """
    if len(content) > most_bytes:
        raise InputError(f"{what} must be JSON of at most {most_bytes:,} bytes, got {len(content):,}")
    try:
        text = content.decode() if isinstance(content, bytes) else content
        return json.loads(text, object_pairs_hook=_table, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise InputError(f"{what} is nested too deep") from None
    except ValueError as error:  # of decoding, of JSON, of numbers with thousands of digits, or of our own checks
        raise InputError(f"{what} is not valid JSON ({_words(error)})") from error


def to_bytes(content: Mapping[str, Any]) -> bytes:
    """Return a record as readable JSON text."""
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def _words(error: ValueError) -> str:
    """Return the reason of an error on one line."""
    return error.reason if isinstance(error, UnicodeDecodeError) else str(error).splitlines()[0]


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name, value in pairs:
        if name in table:
            raise ValueError(f"the key {shown(name)} appears twice")
        table[name] = value
    return table


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:20]} is too large")
    return value
