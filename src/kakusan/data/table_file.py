"""Tables from files: delimited text is read here, and Parquet is read by pandas."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from kakusan.columns import MOST_COLUMNS, Column
from kakusan.data.arrays import memory_for_data
from kakusan.data.column_types import SKIP, column_of, numbers_of, read_types
from kakusan.data.dataset import Dataset, Tell, from_arrays
from kakusan.data.options import ImageOptions
from kakusan.errors import InputError, printable
from kakusan.storage.files import open_regular

DELIMITERS = ",;\t|"
SNIFFED = 2**16  # characters
MEMORY_PER_BYTE = 12  # memory per byte of text: Python strings take this much while a table is read
csv.field_size_limit(2**20)


class TableFile:
    """Reader of a `.csv`, `.tsv`, `.txt` or `.parquet` file, one row for each example."""

    summary = "a .csv, .tsv or .parquet table"
    options = ("columns",)
    endings: ClassVar = (".csv", ".tsv", ".txt", ".parquet")

    @staticmethod
    def recognizes(path: Path) -> bool:
        """True for a file with one of these endings."""
        return path.suffix.lower() in TableFile.endings and not path.is_dir()

    @staticmethod
    def open(path: Path, options: ImageOptions, whole: bool, tell: Tell | None) -> Dataset:
        """Read the table; the last tenth of a fixed shuffle is held out."""
        name = printable(path.name)
        parquet = path.suffix.lower() == ".parquet"
        header, cells = read_parquet(path) if parquet else read_text(path)
        return table_of(name, header, cells, options, whole)


def table_of(name: str, header: list[str], cells: list[list[str]], options: ImageOptions, whole: bool) -> Dataset:
    """Data set of a table given as columns of text.

    Args:
        name: Name in messages.
        header: Names of the columns, all different.
        cells: For each column its cells; an empty one is missing.
        options: `columns` sets types that would otherwise be inferred from the values.
        whole: Hold out nothing.
    """
    wanted = read_types(options.columns, header, name)
    columns, values = [], []
    for title, texts in zip(header, cells):
        if wanted.get(title) == SKIP:
            continue
        column = column_of(name, title, texts, wanted.get(title))
        columns.append(column)
        values.append(numbers_of(name, column, texts))
    if not columns:
        raise InputError(f"{name}: every column is left out; keep one or more")
    rows = torch.from_numpy(np.stack(values, axis=1))
    dataset = from_arrays(name, "tables", rows, whole=whole)
    skipped = len(header) - len(columns)
    prepared = f"{skipped} column{'s' if skipped > 1 else ''} left out" if skipped else ""
    return dataclasses.replace(dataset, columns=tuple(columns), prepared=prepared)


def read_text(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and columns of a table of text, whose delimiter is detected."""
    with open_regular(path) as file:
        size = file.seek(0, io.SEEK_END)
        if size * MEMORY_PER_BYTE > memory_for_data():
            raise InputError(
                f"{path}: a table of {size / 2**20:,.0f} MiB does not fit into half of this machine's memory as text; "
                "save its numbers with np.save('x.npy', array)"
            )
        file.seek(0)
        content = file.read()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}: expected text in UTF-8, and line {line} has the byte {content[error.start]:#04x}; "
            "save the table with the encoding UTF-8"
        ) from error
    if "\0" in text:
        raise InputError(f"{path}: expected a table of text, got null bytes; the file is damaged or in UTF-16")
    return _columns(path, text)


def _columns(path: Path, text: str) -> tuple[list[str], list[list[str]]]:
    delimiter = _delimiter(path, text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    lines: list[tuple[int, list[str]]] = []
    try:
        for line in reader:
            if any(cell.strip() for cell in line) or len(line) > 1:
                lines.append((reader.line_num, [cell.strip() for cell in line]))
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num} is not a line of a table ({error})") from error
    if not lines:
        raise InputError(f"{path}: expected a header and rows, got an empty file")
    width = len(lines[0][1])
    if width > MOST_COLUMNS:
        raise InputError(f"{path}: expected at most {MOST_COLUMNS:,} columns, got {width:,}; save them as a .npy file")
    for number, line in lines:
        if len(line) != width:
            raise InputError(
                f"{path}: line {number} has {len(line)} columns, and the first has {width}; put quotes around text "
                f"that contains {delimiter!r}"
            )
    first = lines[0][1]
    names = named(first) if _is_header(first) else [f"column{k + 1}" for k in range(width)]
    body = lines[1:] if _is_header(first) else lines
    if not body:
        raise InputError(f"{path}: the table has a header and no rows")
    return names, [list(column) for column in zip(*(line for _, line in body))]


def _delimiter(path: Path, text: str) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    try:
        return csv.Sniffer().sniff(text[:SNIFFED].rpartition("\n")[0] or text[:SNIFFED], DELIMITERS).delimiter
    except csv.Error:  # one column, or lines of different form
        first = text.split("\n", 1)[0]
        return max(DELIMITERS, key=first.count)


def _is_header(cells: list[str]) -> bool:
    """True if no cell of the first line is a number, and none is empty."""
    return all(cells) and not any(_is_number(cell) for cell in cells)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def named(header: Iterable[str]) -> list[str]:
    """Printable names, numbered where they repeat."""
    found: list[str] = []
    for name in map(printable, map(str, header)):
        candidate, number = name or "column", 2
        while candidate in found:
            candidate, number = f"{name or 'column'}.{number}", number + 1
        found.append(candidate)
    return found


def read_parquet(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and columns of a Parquet file, as text.

    Raises:
        InputError: Without the extra `tables`, or if the file is damaged.
    """
    try:
        import pandas
    except ImportError as error:
        raise InputError(
            f"{path}: Parquet files need pandas and pyarrow; type: pip install 'kakusan[tables]', or save the table "
            "as .csv"
        ) from error
    if path.stat().st_size * MEMORY_PER_BYTE > memory_for_data():
        raise InputError(f"{path}: the table does not fit into half of this machine's memory; save fewer rows")
    try:
        frame = pandas.read_parquet(path)
    except Exception as error:  # pyarrow raises many kinds of errors for a damaged file
        reason = " ".join(str(error).split())[:100]
        raise InputError(
            f"{path}: expected a Parquet table; this file is damaged or has another format ({reason})"
        ) from error
    if not len(frame) or not len(frame.columns):
        raise InputError(f"{path}: expected rows and columns, got {len(frame)} and {len(frame.columns)}")
    cells = [
        ["" if empty else _text(value) for value, empty in zip(frame.iloc[:, k], frame.iloc[:, k].isna())]
        for k in range(frame.shape[1])
    ]
    return named(frame.columns), cells


def _text(value: object) -> str:
    if isinstance(value, bool | np.bool):
        return "true" if value else "false"
    return repr(float(value)) if isinstance(value, float | np.floating) else str(value)


def with_columns(dataset: Dataset, columns: tuple[Column, ...]) -> Dataset:
    """Match a data set to a model's columns by name; return it with the model's order and category codes.

    Raises:
        InputError: If a column is missing, or has a category that the model does not know.
    """
    known = {column.name: index for index, column in enumerate(dataset.columns)}
    absent = [column.name for column in columns if column.name not in known]
    if absent:
        raise InputError(
            f"{dataset.name} lacks the column {absent[0]} of the model; it has {', '.join(list(known)[:8])}"
        )

    def convert(rows: torch.Tensor) -> torch.Tensor:
        parts = []
        for column in columns:
            index = known[column.name]
            parts.append(_recoded(dataset, dataset.columns[index], column, rows[:, index]))
        return torch.stack(parts, dim=1)

    train = convert(dataset.train)
    test = train if dataset.test is dataset.train else convert(dataset.test)
    return dataclasses.replace(dataset, train=train, test=test, columns=columns)


def _recoded(dataset: Dataset, own: Column, wanted: Column, values: torch.Tensor) -> torch.Tensor:
    if own.type != wanted.type and (own.categories or wanted.categories):
        raise InputError(f"{dataset.name}: column {own.name} is {own.type}, and the model's is {wanted.type}")
    if not wanted.categories or own.categories == wanted.categories:
        return values
    codes = {name: code for code, name in enumerate(wanted.categories)}
    used = [own.categories[int(code)] for code in values[~values.isnan()].unique()]
    if unknown := [name for name in used if name not in codes]:
        raise InputError(
            f"{dataset.name}: column {own.name} has the category {printable(unknown[0])}, which the model has not seen; "
            f"it knows {', '.join(wanted.categories[:8])}"
        )
    table = torch.tensor([codes.get(name, -1) for name in own.categories], dtype=torch.float64)
    return torch.where(values.isnan(), values, table[values.nan_to_num().long()])
