"""Conversion between rows of a table and model values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from kakusan.columns import Column, num_numbers, places
from kakusan.errors import InputError
from kakusan.noise import Randomness


@dataclass(frozen=True)
class TableScale:
    """Map between stored rows and model values.

    A stored row is float64 (columns,), with a value or the code of a category for each column, or NaN if it is
    missing. Among the model values a missing one is 0 with the flag 0. `kakusan.likelihoods.table` corrects the density.

    Attributes:
        columns: The table's columns.
        dtype: Type of the model values.
    """

    columns: tuple[Column, ...]
    dtype: torch.dtype = torch.float32
    binary: ClassVar[bool] = False
    measured_in: ClassVar[str] = "rows of a table"

    def to_model(self, rows: Tensor, randomness: Randomness = None) -> Tensor:
        """Convert stored rows, float64 (b, columns), to model values (b, numbers), computed in float64.

        Raises:
            InputError: If a value is missing in a column that was complete in training, or is not a category.
        """
        rows, parts = rows.double(), []
        for place in places(self.columns):
            column, values = place.column, rows[:, place.index]
            hole = values.isnan()
            if not column.missing and hole.any():
                raise InputError(f"column {column.name} has a missing value, but had none in the training data")
            if column.categories:
                parts.append(_one_hot(column, values.nan_to_num(), hole))
            else:
                parts.append(transform(column, values).masked_fill(hole, 0.0)[:, None])
            if column.missing:
                parts.append(~hole[:, None])
        return torch.cat([part.to(self.dtype) for part in parts], dim=1)

    def to_rows(self, values: Tensor) -> Tensor:
        """Convert model values (b, numbers) to stored rows, float64 (b, columns)."""
        values, parts = values.double(), []
        for place in places(self.columns):
            column, part = place.column, values[:, place.start : place.stop]
            if column.categories:
                row = part.argmax(1).double()
            else:
                row = inverse(column, part[:, 0])
                row = row.round() if column.type == "integer" else row
            parts.append(row if place.flag is None else row.masked_fill(values[:, place.flag] < 0.5, torch.nan))
        return torch.stack(parts, dim=1)

    @property
    def num_numbers(self) -> int:
        """Number of model values for one row."""
        return num_numbers(self.columns)


def _one_hot(column: Column, codes: Tensor, hole: Tensor) -> Tensor:
    wrong = (codes != codes.round()) | (codes < 0) | (codes >= column.width)
    if wrong.any():
        raise InputError(
            f"column {column.name} has the codes 0 to {column.width - 1} of its categories, got {codes[wrong][0]:g}"
        )
    return F.one_hot(codes.long(), column.width).double().masked_fill(hole[:, None], 0.0)


def transform(column: Column, values: Tensor) -> Tensor:
    """Transformed values y of a real or integer column (see `Column`)."""
    u = (values - column.center) / column.scale
    if column.skew != 0 or column.tail != 1:
        u = torch.sinh(column.tail * torch.asinh(u) - column.skew)
    return (u - column.mean) / column.std


def inverse(column: Column, y: Tensor) -> Tensor:
    """Values of a column from their transformed values."""
    y = y * column.std + column.mean
    if column.skew != 0 or column.tail != 1:
        y = torch.sinh((torch.asinh(y) + column.skew) / column.tail)
    return y * column.scale + column.center
