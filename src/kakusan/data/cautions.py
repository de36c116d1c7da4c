"""Cautions about data that are unsuitable for training."""

from __future__ import annotations

from torch import Tensor

from kakusan.data.dataset import Dataset
from kakusan.data.forms.base import in_parts

FEW = 100  # fewest training examples without a caution


def cautions(dataset: Dataset) -> list[str]:
    """Warnings about the data, one line each, e.g. equal examples; none for ordinary data."""
    data, name = dataset.train, dataset.name
    low, high = data.min().item(), data.max().item()
    lines = []
    if low == high and not dataset.columns:  # codes of different columns are no equal values
        lines.append(f"caution: {name} has only one value, {high:g}, so there is nothing to learn")
    elif len(data) > 1 and _all_equal(data):
        lines.append(f"caution: all training examples in {name} are equal, so a model can only memorize this one")
    else:
        lines += dataset.form.cautions(dataset, high)
    if len(data) < FEW:
        examples, them = ("1 training example", "it") if len(data) == 1 else (f"{len(data)} training examples", "them")
        lines.append(f"caution: only {examples}, so a model is likely to memorize {them}; a few thousand are usual")
    return lines


def _all_equal(data: Tensor) -> bool:
    """Check if all examples are equal, in parts; for most data the first part settles it."""
    return all(bool((part == data[:1]).all()) for part in in_parts(data))
