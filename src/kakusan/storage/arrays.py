"""Arrays and tables as the bytes of a .npy or .csv file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

import numpy as np


def npy_bytes(array: Any) -> bytes:
    """Return the content of a .npy file."""
    content = io.BytesIO()
    np.save(content, np.asarray(array))
    return content.getvalue()


def csv_bytes(rows: Iterable[Iterable[Any]]) -> bytes:
    """Return the content of a .csv file in UTF-8, one line per row; cells are quoted only if necessary."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
