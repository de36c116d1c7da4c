"""JSON that came from outside: its size, keys and numbers are checked before it is believed."""

from __future__ import annotations

import json
from typing import Any

from kakusan.errors import InputError, shown

MOST_BYTES = 64 * 1024


def parse(content: bytes | str, what: str, most_bytes: int = MOST_BYTES) -> Any:
    """The values of a JSON text.

    Args:
        content: UTF-8.
        what: For messages, e.g. "run.json".
        most_bytes: Longer ones are not looked at.

    Raises:
        InputError: If it is too long, nested too deep, not JSON, or has a key twice, NaN or Infinity.
    """
    if len(content) > most_bytes:
        raise InputError(f"{what} must be JSON of at most {most_bytes:,} bytes, got {len(content):,}")
    try:
        text = content.decode() if isinstance(content, bytes) else content
        return json.loads(text, object_pairs_hook=_table, parse_constant=_no_constant)
    except RecursionError:
        raise InputError(f"{what} is nested deeper than Python reads") from None
    except ValueError as error:  # of decoding, of JSON, of numbers with thousands of digits, and ours
        raise InputError(f"{what} is not JSON as it should be ({_words(error)})") from error


def _words(error: ValueError) -> str:
    """The reason, without the text around it."""
    return error.reason if isinstance(error, UnicodeDecodeError) else str(error).splitlines()[0]


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name, value in pairs:
        if name in table:
            raise ValueError(f"the key {shown(name)} stands there twice")
        table[name] = value
    return table


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")
