"""Column types of a table, inferred from its cells, and conversion between cells and numbers."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from typing import get_args

import numpy as np

from kakusan.columns import MOST_CATEGORIES, Column, ColumnType
from kakusan.errors import InputError, printable, shown
from kakusan.registry import did_you_mean

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
SKIP = "skip"
COMMAS = "texts that look like numbers with decimal commas"
CHOICES = (*get_args(ColumnType), SKIP)
LARGEST_INTEGER = 2**53
FEW = 2  # a column of whole numbers with at most this many different ones is categorical
NAMES_FROM = 20  # rows; from this many on, a text column whose cells all differ is taken as names


def decimal_commas(texts: Sequence[str]) -> bool:
    """True if texts are numbers, some of them with a decimal comma."""
    numbers = (number_of(text.replace(",", ".", 1)) for text in texts)
    return any("," in text for text in texts) and all(number is not None for number in numbers)


def is_missing(cell: str) -> bool:
    """True for an empty cell and for the usual words for a missing value."""
    return cell.lower() in MISSING


def read_types(text: str | None, header: list[str], where: str) -> dict[str, str]:
    """Types by column name from words such as "age=integer,id=skip".

    Raises:
        InputError: If a column or a type is unknown.
    """
    found: dict[str, str] = {}
    for part in next(csv.reader([text or ""])):
        name, sign, kind = part.strip().rpartition("=")
        if not part.strip():
            continue
        if not sign or kind not in CHOICES:
            raise InputError(
                f"--columns takes NAME=TYPE with a type of {', '.join(CHOICES)}, got {shown(part)}; "
                f"e.g. --columns {header[0]}=categorical"
            )
        if name not in header:
            raise InputError(
                f"{where}: there is no column {shown(name)}; {did_you_mean(name, header)}there are: {', '.join(header[:12])}"
            )
        found[name] = kind
    return found


def written_types(columns: tuple[Column, ...]) -> str:
    """Text with the type of every column, in the format that `read_types` reads."""
    quoted = [f"{column.name}={column.type}".replace('"', '""') for column in columns]
    return ",".join(f'"{one}"' for one in quoted)


def column_of(where: str, name: str, cells: list[str], wanted: str | None) -> Column:
    """Column of these cells: its type, and the categories of a categorical one.

    By default, a column of numbers is real and a column of whole numbers is integer. A column with at most two
    different whole numbers is categorical, and so is a column of text.

    Raises:
        InputError: If the cells do not fit the wanted type, or have too many categories.
    """
    present = [cell for cell in cells if not is_missing(cell)]
    if not present:
        raise InputError(f"{where}: column {name} has no values; leave it out with --columns {name}={SKIP}")
    missing = len(present) < len(cells)
    kind = wanted or _type_of(present)
    if kind != "categorical":
        return Column(name, kind, missing)  # type: ignore[arg-type]  # checked by Column
    categories = sorted(set(present), key=_order)
    many = len(categories) > MOST_CATEGORIES or (wanted is None and len(categories) == len(present) >= NAMES_FROM)
    if many and decimal_commas(categories):
        raise InputError(f"{where}: column {name} has {COMMAS}; write points (1.5, not 1,5)")
    if many:
        raise InputError(
            f"{where}: column {name} has {len(categories):,} different texts in {len(present):,} rows, like names or dates; "
            f"leave it out with --columns {name}={SKIP}"
        )
    return Column(name, "categorical", missing, categories=tuple(printable(one)[:1000] for one in categories))


def _type_of(present: list[str]) -> ColumnType:
    numbers = [number_of(cell) for cell in present]
    if any(number is None for number in numbers):
        return "categorical"
    whole = all(_is_integer(cell) for cell in present)
    if not whole:
        return "real"
    return "categorical" if len(set(present)) <= FEW else "integer"


def number_of(cell: str) -> float | None:
    """Return the number in a cell; None for other text."""
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if "_" not in cell else None


def _is_integer(cell: str) -> bool:
    digits = cell.removeprefix("-").removeprefix("+")
    return digits.isascii() and digits.isdigit() and int(digits) <= LARGEST_INTEGER


def _order(cell: str) -> tuple[float, str]:
    number = number_of(cell)
    return (math.inf if number is None else number, cell)


def numbers_of(where: str, column: Column, cells: list[str]) -> np.ndarray:
    """The column as float64: values, or codes of categories; NaN where a value is missing.

    Raises:
        InputError: If a cell is not a number of the column's type; the message names the row.
    """
    codes = {name: float(code) for code, name in enumerate(column.categories)}
    values = np.full(len(cells), np.nan)
    for row, cell in enumerate(cells):
        if is_missing(cell):
            continue
        value = codes[printable(cell)[:1000]] if codes else number_of(cell)
        wrong = value is None or not math.isfinite(value)
        if wrong or (column.type == "integer" and (value != round(value) or abs(value) > LARGEST_INTEGER)):
            expected = "a whole number" if column.type == "integer" else "a finite number"
            raise InputError(
                f"{where}: column {column.name} needs {expected}, got {shown(cell)} in row {row + 1}; "
                f"choose another type, e.g. --columns {column.name}=categorical"
            )
        values[row] = value
    return values


def cells_of(column: Column, values: np.ndarray) -> list[str]:
    """Text cells of a column of stored values, as written to a file; empty where a value is missing."""
    found = []
    for value in values.tolist():
        if math.isnan(value):
            found.append("")
        elif column.categories:
            found.append(column.categories[int(value)])
        else:
            found.append(str(int(value)) if column.type == "integer" else repr(value))
    return found
