"""Lines of a growing file, each with a seal over itself and all before it: a changed, moved or missing line is noticed.

The seal is the first 16 hexadecimal digits of the SHA-256 of the seal before it and the record. It is a guard against
damage, not against an author: whoever can write the file can write new seals. A file without any seal, as it was
written before there were any, is taken as it is; lines missing at the end cannot be told from lines never written.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

SEAL = "sha256"
DIGITS = 16


def sealed(records: list[dict[str, Any]], before: str = "") -> list[dict[str, Any]]:
    """Records with their seals, to follow a line with the seal `before`; "" at the beginning of a file."""
    lines = []
    for record in records:
        before = _seal(before, record)
        lines.append({**record, SEAL: before})
    return lines


def opened(lines: list[bytes]) -> tuple[list[dict[str, Any]], int | None]:
    """The records of lines up to the first that is not as it was written, and the number of that one, from 1."""
    records, before = [], ""
    with_seals = any(SEAL.encode() in line for line in lines)
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            return records, number
        if not isinstance(record, dict):
            return records, number
        found = record.pop(SEAL, None)
        if with_seals:
            before = _seal(before, record)
            if found != before or line != _line({**record, SEAL: before}):
                return records, number
        records.append(record)
    return records, None


def _line(record: dict[str, Any]) -> bytes:
    return (json.dumps(record) + "\n").encode()


def _seal(before: str, record: dict[str, Any]) -> str:
    return hashlib.sha256(before.encode() + _line(record)).hexdigest()[:DIGITS]
