"""Rows of a table, float64 (N, columns): values, codes of categories, NaN where a value is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kakusan.columns import MOST_COLUMNS
from kakusan.data.column_types import COMMAS, decimal_commas
from kakusan.data.forms.base import Form
from kakusan.units import nats

if TYPE_CHECKING:
    from kakusan.data.dataset import Dataset


def nats_of(bits_per_dim: float, standard_error: float | None, num_dims: int, example: str) -> str:
    """A bound on the log-likelihood with its standard error in nats per example; higher is better."""
    stderr = "unknown" if standard_error is None else f"{nats(standard_error, num_dims):.3f}"
    return f"{-nats(bits_per_dim, num_dims):z.3f} ± {stderr} nats per {example}"


class TableForm(Form):
    """Tables of real, integer and categorical columns."""

    name = "tables"
    unit = "rows"
    shape_words = "[columns]"
    values = "rows"
    shows_elbo = True
    how_to_label = "add --labels COLUMN with the name of a column of classes"

    def fits(self, event_shape: tuple[int, ...]) -> bool:
        """True for one size, the number of columns."""
        return len(event_shape) == 1 and event_shape[0] <= MOST_COLUMNS

    def describe(self, total: int, event_shape: tuple[int, ...], bits: bool) -> str:
        """Number of rows and of columns, in words."""
        return f"{total:,} rows of {event_shape[0]} column{'s' if event_shape[0] > 1 else ''}"

    def recipe(self, dataset: Dataset) -> str:
        """Name of the recipe for tables."""
        return "tables"

    def from_model(self, parts: list[Tensor], event_shape: tuple[int, ...], scale: Any) -> np.ndarray:
        """Join batches of samples into stored rows, float64 (n, columns)."""
        rows = [scale.to_rows(part.cpu()) for part in parts]
        return (torch.cat(rows) if rows else torch.zeros((0, *event_shape))).numpy()

    def stored(self, examples: Tensor, event_shape: tuple[int, ...]) -> Tensor:
        """Convert rows to float64."""
        self.check(examples, event_shape, tuple(examples.shape[1:]) == event_shape)
        return examples.double()

    def files(
        self, samples: np.ndarray, scale: Any, labels: tuple[str, Sequence[str]] | None = None
    ) -> dict[str, bytes]:
        """Contents of samples.csv: the samples as text, with the names and categories of the training data; labels last."""
        from kakusan.data.column_types import cells_of
        from kakusan.storage.arrays import csv_bytes

        table = {column.name: cells_of(column, samples[:, k]) for k, column in enumerate(scale.columns)}
        table |= {} if labels is None else {labels[0]: labels[1]}
        return {"samples.csv": csv_bytes([tuple(table), *zip(*table.values())])}

    def in_unit(self, bits_per_dim: float, num_dims: int) -> float:
        """Convert bits/dim to nats per example."""
        return nats(bits_per_dim, num_dims)

    def rate(self, bits_per_dim: float, standard_error: float | None, num_dims: int, digits: int = 4) -> str:
        """Bound on log p(row) in nats with its standard error, in words; higher is better."""
        return nats_of(bits_per_dim, standard_error, num_dims, "row")

    def facts(self, dataset: Dataset) -> list[str]:
        """Type, range and missing values of each column."""
        rows = torch.cat([dataset.train, dataset.test]) if dataset.train is not dataset.test else dataset.train
        lines = []
        for index, column in enumerate(dataset.columns):
            values = rows[:, index]
            present = values[~values.isnan()]
            words = f"{column.name}: {column.type}"
            if column.categories:
                words += f", {len(column.categories)} categories ({', '.join(column.categories[:6])}"
                words += ", ...)" if len(column.categories) > 6 else ")"
            else:
                words += f" from {present.min().item():g} to {present.max().item():g}, mean {present.mean().item():.4g}"
            holes = len(values) - len(present)
            lines.append(words + (f", {holes:,} missing" if holes else ""))
        return lines

    def cautions(self, dataset: Dataset, high: float) -> list[str]:
        """Warn about columns with decimal commas, columns with only one value, and columns that repeat the labels."""
        lines = []
        for index, column in enumerate(dataset.columns):
            values = dataset.train[:, index]
            if decimal_commas(column.categories):
                lines.append(
                    f"caution: column {column.name} of {dataset.name} is categorical, with {COMMAS}; "
                    "write points (1.5, not 1,5) for a real column"
                )
            if len(values[~values.isnan()].unique()) == 1 and not column.categories:
                lines.append(
                    f"caution: column {column.name} of {dataset.name} has only one value, so its density is not defined; "
                    f"leave it out with --columns {column.name}=skip"
                )
            elif _repeats(values, dataset.train_cond):
                lines.append(
                    f"caution: column {column.name} of {dataset.name} has one value for each label, so it gives the "
                    f"labels away; leave it out with --columns {column.name}=skip"
                )
        return lines


def _repeats(values: Tensor, labels: Tensor | None) -> bool:
    """Check if each of two labels or more has one value of a column, and each value one label."""
    if labels is None:
        return False
    known = (labels >= 0) & ~values.isnan()
    pairs = torch.stack([values[known], labels[known].double()], 1)
    num = len(pairs[:, 1].unique())
    return num > 1 and len(pairs[:, 0].unique()) == num == len(pairs.unique(dim=0))
