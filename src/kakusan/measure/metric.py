"""Interface of a measure of samples: its inputs, values and display."""

from __future__ import annotations

import abc
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from math import sqrt
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from kakusan.checks import numbers
from kakusan.errors import InputError
from kakusan.noise import stream

Found = TypeVar("Found")


@dataclass(frozen=True)
class Value:
    """A measured number.

    Attributes:
        value: The number, in the measure's own unit.
        standard_error: Standard error of `value` over other draws of the same size; None if not estimated.
        p_value: Probability of a value at least this extreme for equal distributions; None if not tested.
    """

    value: float
    standard_error: float | None = None
    p_value: float | None = None

    def record(self) -> dict[str, Any]:
        """Return plain JSON values, without those that are None."""
        return {name: number for name, number in vars(self).items() if number is not None}

    def __str__(self) -> str:
        error = "" if self.standard_error is None else f" ± {self.standard_error:.4f}"
        chance = "" if self.p_value is None else f" (p = {self.p_value:.2g})"
        return f"{self.value:.4f}{error}{chance}"


def share(hits: Tensor) -> Value:
    """Share of true values among independent trials, bool (N,), with its binomial standard error."""
    part = hits.double().mean().item()
    return Value(part, sqrt(part * (1 - part) / len(hits)))


def rows(features: Any) -> Tensor:
    """Convert features (N, D), finite floating-point numbers, to a tensor; InputError for others."""
    tensor = numbers(features, "features")
    if tensor.dim() != 2 or not tensor.is_floating_point():
        raise InputError(
            f"expected features as floating-point numbers (N, D), got {tensor.dtype} of shape {tuple(tensor.shape)}; "
            "kakusan.measure.features(images) computes those of 28 x 28 images"
        )
    if not tensor.isfinite().all():
        raise InputError("features must be finite numbers, got NaN or infinity; leave out such rows")
    return tensor


def pair(samples: Any, reference: Any) -> tuple[Tensor, Tensor]:
    """Convert the features of two sets to tensors (N, D) and (M, D); InputError if their D differ."""
    ours, theirs = rows(samples), rows(reference)
    if ours.shape[1] != theirs.shape[1]:
        raise InputError(f"both sets need the same features, got {ours.shape[1]} and {theirs.shape[1]} of them")
    return ours, theirs


def probabilities(values: Any) -> Tensor:
    """Convert class probabilities (N, C), N > 0, to a tensor; InputError for others."""
    tensor = rows(values)
    if not len(tensor) or not ((tensor >= 0) & (tensor <= 1)).all():
        raise InputError(f"expected class probabilities (N, C) between 0 and 1, got shape {tuple(tensor.shape)}")
    return tensor


@dataclass(frozen=True)
class Examples:
    """Features (n, D) of a set of examples; for images also class probabilities, pixels (n, P) and grid power (n,)."""

    features: Tensor
    probabilities: Tensor | None = None
    pixels: Tensor | None = None
    grid: Tensor | None = None

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: Tensor | slice) -> Examples:
        return Examples(**{name: part[rows] for name, part in vars(self).items() if part is not None})


@dataclass(frozen=True)
class Sets:
    """Samples, and the real examples that they are compared with.

    Attributes:
        samples: n generated examples.
        reference: Held-out examples in random order.
        train: Training examples, if known.
    """

    samples: Examples
    reference: Examples
    train: Examples | None = None
    _found: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, key: Hashable, compute: Callable[[], Found]) -> Found:
        """Return `compute()`, cached by key for quantities that several metrics need."""
        if key not in self._found:
            self._found[key] = compute()
        return self._found[key]


@dataclass(frozen=True)
class Column:
    """Display of one value.

    Attributes:
        label: Name of the value for people.
        better: Direction of better values, e.g. "lower is better".
        unit: Unit of the value, if it has one.
        depends_on_n: Whether only values for equal numbers of samples are comparable; a record then names the number.
    """

    label: str
    better: str
    unit: str = ""
    depends_on_n: bool = False

    def __str__(self) -> str:
        return ", ".join(part for part in (self.label, self.unit, self.better) if part)


class Metric(abc.ABC):
    """A measure of samples; `kakusan evaluate --samples` shows those that are listed in `kakusan.measure.METRICS`.

    Attributes:
        columns: Display of each value, by the names that `compute` returns.
    """

    columns: ClassVar[Mapping[str, Column]]

    @abc.abstractmethod
    def compute(self, sets: Sets) -> dict[str, Value]:
        """Return the values by name; empty if these sets lack what the metric needs."""

    def floor(self, sets: Sets) -> dict[str, Value]:
        """Return the scores of real examples: by default the same number of training examples as of samples."""
        assert sets.train is not None, "called only with training examples"
        rows = shuffled(len(sets.train))[: len(sets.samples)]
        return self.compute(replace(sets, samples=sets.train[rows], _found={}))


def in_random_order(features: Tensor) -> Tensor:
    """Return the rows in a fixed random order, for measures that split them: samples may be sorted by class."""
    return features[shuffled(len(features))]


def shuffled(size: int) -> Tensor:
    """Return a fixed random order of `size` rows, because data may be sorted, e.g. the halves of MNIST's test split."""
    return torch.randperm(size, generator=stream(0, "measure"))
