"""Strict JSON from outside: size, keys and numbers are checked before a value is used."""

from __future__ import annotations

import json
import math
from typing import Any

from kakusan.errors import InputError, shown

MOST_BYTES = 64 * 1024


def parse(content: bytes | str, what: str, most_bytes: int = MOST_BYTES) -> Any:
    """Return the values of a JSON text.

    Args:
        content: UTF-8 without a byte-order mark.
        what: Name for messages, e.g. "run.json".
        most_bytes: Largest size that is read.

    Raises:
        InputError: If it is too long, nested too deep, not JSON, or has a duplicate key or a number that is not finite.
    """
    if len(content) > most_bytes:
        raise InputError(f"{what} must be JSON of at most {most_bytes:,} bytes, got {len(content):,}")
    try:
        text = content.decode() if isinstance(content, bytes) else content
        return json.loads(text, object_pairs_hook=_table, parse_constant=_not_finite, parse_float=_finite)
    except RecursionError:
        raise InputError(f"{what} is nested deeper than Python reads") from None
    except ValueError as error:  # from decoding, from JSON, from numbers with thousands of digits, and ours
        reason = error.reason if isinstance(error, UnicodeDecodeError) else str(error).splitlines()[0]
        raise InputError(f"{what} is not valid JSON ({reason})") from error


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name, value in pairs:
        if name in table:
            raise ValueError(f"the key {shown(name)} appears twice")
        table[name] = value
    return table


def _not_finite(text: str) -> float:
    raise ValueError(f"{shown(text)} is not a finite number")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _not_finite(text)
