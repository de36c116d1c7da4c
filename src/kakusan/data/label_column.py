"""Labels from a column of a table, which is then not a feature."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from kakusan.columns import Column
from kakusan.data.column_types import cells_of
from kakusan.data.dataset import Dataset, class_indices
from kakusan.errors import InputError


def has_column(dataset: Dataset, name: str | None) -> bool:
    """True if the data are a table with a column of that name."""
    return bool(name) and any(column.name == name for column in dataset.columns)


def of_column(dataset: Dataset, name: str) -> Dataset:
    """Return a table without one column, whose values become the labels; a missing value means unlabeled.

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
    cells = [_cells(dataset, columns[place], part[:, place]) for part in (dataset.train, dataset.test)]
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


def _cells(dataset: Dataset, column: Column, values: Tensor) -> np.ndarray:
    """Text of each label, empty where it is missing; InputError for numbers that are not whole."""
    present = values[~values.isnan()]
    if column.type == "real":
        broken = present[present != present.round()]
        if len(broken):
            raise InputError(
                f"{dataset.name}: labels are text or whole numbers, and column {column.name} has {broken[0]:g}; "
                f"add --columns {column.name}=categorical to take each number as a class"
            )
        column = dataclasses.replace(column, type="integer")
    return np.array(cells_of(column, torch.where(values.isnan(), values, values.round()).numpy()))
