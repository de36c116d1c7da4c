"""Labels from a column of a table, which is then not a feature."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from kakusan.columns import Column
from kakusan.data.column_types import LARGEST_INTEGER, cells_of, number_of
from kakusan.data.dataset import Dataset, class_indices
from kakusan.errors import InputError


def has_column(dataset: Dataset, name: str | None) -> bool:
    """True if the data are a table with a column of that name."""
    return bool(name) and any(column.name == name for column in dataset.columns)


def of_column(dataset: Dataset, name: str, known: Sequence[str] = ()) -> Dataset:
    """Return a table without one column, whose values become the labels; a missing value means unlabeled.

    A whole number is a label without leading zeros or decimals, so that other files have the same labels.

    Args:
        dataset: The table.
        name: Name of the column.
        known: Classes of a trained model; numbers that are not whole are then labels.

    Raises:
        InputError: If it is the only column, or has numbers that are not whole.
    """
    columns = dataset.columns
    place = [column.name for column in columns].index(name)
    if len(columns) == 1:
        raise InputError(
            f"{dataset.name}: expected columns other than the labels {name}, got none; add a column to model"
        )
    kept = [k for k in range(len(columns)) if k != place]
    cells = [_cells(dataset, columns[place], part[:, place], bool(known)) for part in (dataset.train, dataset.test)]
    whole = dataset.train is dataset.test
    indices, test_indices, classes = class_indices(cells[0], cells[1], certain=True)
    train = dataset.train[:, kept].contiguous()
    return dataclasses.replace(
        dataset,
        train=train,
        test=train if whole else dataset.test[:, kept].contiguous(),
        columns=tuple(columns[k] for k in kept),
        train_cond=indices,
        test_cond=test_indices,
        classes=classes,
        labeled_by=f"column {name}",
        label_column=name,
    )


def _cells(dataset: Dataset, column: Column, values: Tensor, as_text: bool) -> np.ndarray:
    """Text of each label, empty where it is missing; InputError for other numbers than whole ones, unless `as_text`."""
    present = values[~values.isnan()]
    broken = present[present != present.round()] if column.type == "real" else present[:0]
    if len(broken) and not as_text:
        raise InputError(
            f"{dataset.name}: labels are text or whole numbers, and column {column.name} has {broken[0]:g}; "
            f"add --columns {column.name}=categorical to take each number as a class"
        )
    return np.array([_label(cell) for cell in cells_of(column, values.numpy())])


def _label(cell: str) -> str:
    """Return a whole number without leading zeros or decimals, and any other text as it is."""
    number = number_of(cell)
    whole = number is not None and number.is_integer() and abs(number) < LARGEST_INTEGER
    return str(int(number)) if whole else cell
