"""Columns of a table: their types and their positions in the vector that a model takes. Does not import torch."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from kakusan.errors import InputError
from kakusan.settings import Between, Length, check, from_values

ColumnType = Literal["real", "integer", "categorical"]
TYPES: tuple[ColumnType, ...] = ("real", "integer", "categorical")
MOST_COLUMNS = 4096
MOST_CATEGORIES = 1000
Record = Annotated[str, Length(2, 200_000)]


@dataclass(frozen=True)
class Column:
    """One column of a table.

    A real value v is transformed to y = (sinh(tail asinh((v - center) / scale) - skew) - mean) / std, which maps the
    real line onto itself. With the defaults of skew, tail, mean and std, y is (v - center) / scale, as for integers.

    Source: Jones and Pewsey 2009, Sinh-arcsinh distributions, https://doi.org/10.1093/biomet/asp053.

    Attributes:
        name: Name in the table's header.
        type: "real", "integer" or "categorical".
        missing: Whether values may be missing; the model then also takes a flag: 1 for a value, 0 for a missing one.
        center, scale: Location and positive scale in the unit of the column.
        skew, tail: Shape of the transformation; 0 and 1 leave the standardized value as it is.
        mean, std: Constants that standardize the value of sinh; 0 and 1 leave it as it is.
        categories: Names of the categories, in the order of their codes.
    """

    name: Annotated[str, Length(1, 1000)]
    type: ColumnType = "real"
    missing: bool = False
    center: float = 0.0
    scale: Annotated[float, Between(0, ends="()")] = 1.0
    skew: Annotated[float, Between(-10, 10)] = 0.0
    tail: Annotated[float, Between(0.05, 20)] = 1.0
    mean: float = 0.0
    std: Annotated[float, Between(0, ends="()")] = 1.0
    categories: Annotated[tuple[Annotated[str, Length(0, 1000)], ...], Length(0, MOST_CATEGORIES)] = ()

    def __post_init__(self):
        check(self, "column")
        if (self.type == "categorical") != bool(self.categories):
            raise InputError(f"column {self.name}: categorical columns and no others have categories")

    @property
    def width(self) -> int:
        """Count of numbers that encode a value: 1, or one for each category."""
        return len(self.categories) or 1

    def describe(self) -> str:
        """Return the name and the type as text."""
        kind = f"categorical, {len(self.categories)} categories" if self.categories else self.type
        return f"{self.name}: {kind}{', with missing values' if self.missing else ''}"

    def record(self) -> str:
        """Return one line of JSON that `from_record` reads back."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=True)


def from_record(text: str) -> Column:
    """Rebuild a column from its record; InputError if the text is not a record."""
    try:
        values: Any = json.loads(text)
    except ValueError as error:
        raise InputError(f"the record of a column must be JSON ({error})") from error
    return from_values(Column, values, "column")


@dataclass(frozen=True)
class Place:
    """Position of a column in a row's vector: values[start : start + width], then a flag if values may be missing."""

    column: Column
    index: int  # number of the column in the table
    start: int

    @property
    def stop(self) -> int:
        """Index of the first number after the value."""
        return self.start + self.column.width

    @property
    def flag(self) -> int | None:
        """Index of the flag; None if no value may be missing."""
        return self.stop if self.column.missing else None


def places(columns: tuple[Column, ...]) -> list[Place]:
    """Return the position of each column in a row's vector: its value, then its flag."""
    found, start = [], 0
    for index, column in enumerate(columns):
        found.append(Place(column, index, start))
        start += column.width + column.missing
    return found


def num_numbers(columns: tuple[Column, ...]) -> int:
    """Return the length of the vector that a model takes for a row."""
    return sum(column.width + column.missing for column in columns)
