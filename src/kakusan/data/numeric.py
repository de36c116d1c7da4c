"""Tables and series from arrays of numbers."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from kakusan.columns import MOST_COLUMNS, Column
from kakusan.data.column_types import SKIP, read_types
from kakusan.data.dataset import Dataset, from_arrays
from kakusan.errors import InputError

SHORTEST, MOST_CHANNELS = 8, 16  # limits of series; other arrays with three axes are images


def is_series(array: np.ndarray) -> bool:
    """True for floats (n, length, channels) with at most 16 channels and a length above their number, 8 or more."""
    if array.ndim != 3 or array.dtype.kind != "f":
        return False
    return array.shape[2] <= MOST_CHANNELS and array.shape[1] >= max(SHORTEST, array.shape[2] + 1)


def series_of(name: str, array: np.ndarray) -> Tensor:
    """Series as float64 (N, length, channels); InputError for NaN and infinity."""
    if not np.isfinite(array).all():
        row, time, channel = (int(index[0]) for index in (~np.isfinite(array)).nonzero())
        raise InputError(
            f"{name}: series must be finite, got {array[row, time, channel]} in series {row}, time {time}, channel "
            f"{channel}; leave out or interpolate such series"
        )
    return torch.from_numpy(np.array(array, dtype=np.float64, order="C"))


def table_of_array(
    name: str,
    train: np.ndarray,
    test: np.ndarray | None,
    types: str | None,
    whole: bool,
    labels: np.ndarray | None = None,
    test_labels: np.ndarray | None = None,
) -> Dataset:
    """Table of an array of numbers (N, columns), whose columns are named column1, column2, ...

    Columns are real, or integer if the array has a type of whole numbers; NaN is a missing value.

    Args:
        name: Name in messages.
        train: Rows to train on, or to be split.
        test: Held-out rows.
        types: Types of columns as --columns has them.
        whole: Hold out nothing.
        labels: Class of each row of `train`.
        test_labels: Class of each row of `test`.
    """
    if train.shape[1] > MOST_COLUMNS:
        raise InputError(f"{name}: a table has at most {MOST_COLUMNS:,} columns, got {train.shape[1]:,}")
    if test is not None and test.shape[1:] != train.shape[1:]:
        raise InputError(
            f"{name}: training and test rows must have one shape, got {train.shape[1:]} and {test.shape[1:]}"
        )
    names = [f"column{k + 1}" for k in range(train.shape[1])]
    wanted = read_types(types, names, name)
    kept = [k for k, title in enumerate(names) if wanted.get(title) != SKIP]
    if not kept:
        raise InputError(f"{name}: every column is left out; keep one or more")
    both = np.concatenate([np.array(part[:, kept], dtype=np.float64) for part in (train, test) if part is not None])
    default, columns = "integer" if train.dtype.kind in "iu" else "real", []
    for place, k in enumerate(kept):
        column, both[:, place] = _column(name, names[k], wanted.get(names[k], default), both[:, place])
        columns.append(column)
    rows = torch.from_numpy(both)
    held_out = None if test is None else rows[len(train) :]
    known = {"labels": labels, "test_labels": test_labels}
    dataset = from_arrays(name, "tables", rows[: len(train)], held_out, **known, whole=whole)
    return dataclasses.replace(dataset, columns=tuple(columns))


def _column(where: str, name: str, kind: str, values: np.ndarray) -> tuple[Column, np.ndarray]:
    """Return a column of the given type and its stored values, which are codes if it is categorical."""
    present = values[~np.isnan(values)]
    if not len(present):
        raise InputError(f"{where}: column {name} has no values; leave it out with --columns {name}={SKIP}")
    if not np.isfinite(present).all():
        raise InputError(f"{where}: column {name} holds an infinite value; replace it, or write NaN for a missing one")
    missing = len(present) < len(values)
    if kind == "categorical":
        found = np.unique(present)
        codes = np.where(np.isnan(values), np.nan, np.searchsorted(found, values))
        return Column(name, "categorical", missing, categories=tuple(f"{value:g}" for value in found)), codes
    if kind == "integer" and (present != np.round(present)).any():
        raise InputError(
            f"{where}: column {name} needs whole numbers, got {present[present != np.round(present)][0]:g}"
        )
    return Column(name, kind, missing), values  # type: ignore[arg-type]  # checked by Column
