"""Class indices from names of labels, for sampling a class and for evaluating labeled examples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kakusan.errors import InputError, printable, shown
from kakusan.models.clusters import UNLABELED
from kakusan.registry import did_you_mean

EACH = "each"  # means all classes in turn
LISTED = 20  # number of class names in an error


def cond_of(classes: Sequence[str], label: str | int | Sequence[str], n: int, first: int = 0) -> Tensor:
    """Return the class index of n samples, int64 (n,), from the name of a class, its index, "each", or n names.

    With "each" sample i has class i modulo K, so it depends on i alone.

    Raises:
        InputError: If a class does not exist, or the number of names is not n.
    """
    if isinstance(label, str) and label == EACH and EACH not in classes and classes:
        return (first + torch.arange(n)) % len(classes)
    if isinstance(label, str | int):
        return torch.full((n,), index_of(classes, label))
    if len(label) != n:
        raise InputError(f"{n} samples need as many labels, got {len(label)}")
    return torch.tensor([index_of(classes, one) for one in label], dtype=torch.int64)


def indices_of(classes: Sequence[str], labels: Tensor | Sequence[str]) -> Tensor:
    """Return class indices, int64 (n,), from names or indices; "" and -1 mean unlabeled."""
    if isinstance(labels, Tensor):
        return labels
    return torch.tensor([UNLABELED if one == "" else index_of(classes, one) for one in labels], dtype=torch.int64)


def index_of(classes: Sequence[str], label: str | int) -> int:
    """Return the index of a class; InputError if no class has that name or index."""
    if not classes:
        raise InputError("this model is not conditional on labels; omit the label, or train with labels")
    if isinstance(label, str) and label in classes:
        return classes.index(label)
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(classes):
        return label
    names = ", ".join(map(printable, classes[:LISTED])) + (", ..." * (len(classes) > LISTED))
    near = did_you_mean(label, classes) if isinstance(label, str) else ""
    raise InputError(f"the model has no class {shown(label)}; {near}its classes are {names}")
