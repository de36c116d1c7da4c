"""Interface of a form of examples: stored arrays, files of samples, figures and words."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import Tensor

from kakusan.checks import shape_advice
from kakusan.errors import InputError

if TYPE_CHECKING:
    from kakusan.data.dataset import Dataset

NUMBERS_AT_ONCE = 2**24  # values that are compared or summed at a time, so that memory holds the data once


def in_parts(examples: Tensor) -> Iterator[Tensor]:
    """Yield the examples in parts of at most `NUMBERS_AT_ONCE` values, at least one example each."""
    yield from examples.split(max(1, NUMBERS_AT_ONCE // max(1, examples[:1].numel())))


class Form(abc.ABC):
    """Form of the examples of a data set, e.g. 8-bit images.

    Attributes:
        name: Name in records, the `kind` of a data set.
        unit: Plural noun for examples in progress lines.
        shape_words: Shape of one example in words, e.g. "[length, channels]".
        values: Type of the stored values, in words.
        bytes_per_value: Memory of one value of samples.
        augmentable: Whether examples can be shifted and mirrored in training.
        has_figure: Whether examples can be written as a figure.
        has_pixels: Whether examples are images, among which duplicates can be searched.
        how_to_label: Advice in errors on how to label the examples.
        shows_elbo: Whether `rate` is the bound itself, higher is better, and not a cost in bits/dim.
        shows_mean: Whether a sample of a model without solver steps is the mean of p(x | z_1), not a draw.
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    shape_words: ClassVar[str]
    values: ClassVar[str]
    bytes_per_value: ClassVar[int] = 8
    augmentable: ClassVar[bool] = False
    has_figure: ClassVar[bool] = False
    has_pixels: ClassVar[bool] = False
    shows_elbo: ClassVar[bool] = False
    shows_mean: ClassVar[bool] = False
    how_to_label: ClassVar[str] = "add --labels FILE.csv with the columns name and label; names are row numbers from 0"

    @abc.abstractmethod
    def fits(self, event_shape: tuple[int, ...]) -> bool:
        """True if examples of this form can have this shape, whose sizes are positive whole numbers."""

    @abc.abstractmethod
    def describe(self, total: int, event_shape: tuple[int, ...], bits: bool) -> str:
        """Number and form of the examples, in words."""

    @abc.abstractmethod
    def recipe(self, dataset: Dataset) -> str:
        """Name of a recipe that trains on such data."""

    @abc.abstractmethod
    def from_model(self, parts: list[Tensor], event_shape: tuple[int, ...], scale: Any) -> np.ndarray:
        """Join batches of samples in model values into one array in the format of `samples.npy`.

        Args:
            parts: Batches, each (b, *event_shape).
            event_shape: Shape of one example.
            scale: The model's scale, see `Family.scale`.
        """

    def prepare(self, parts: list[Tensor]) -> tuple[list[Tensor], str]:
        """Return the parts of a data set with their values adjusted, and the change in words; default: no change."""
        return parts, ""

    def samples(self, examples: Tensor) -> np.ndarray:
        """Convert stored examples to the format of `samples.npy`."""
        return examples.numpy()

    def stored(self, examples: Tensor, event_shape: tuple[int, ...]) -> Tensor:
        """Convert the array of a `samples.npy` to examples of a data set; InputError if it does not fit."""
        self.check(examples, event_shape, tuple(examples.shape[1:]) == event_shape)
        return examples

    def batch_words(self, event_shape: tuple[int, ...]) -> str:
        """Shapes of a batch that `stored` takes, in words."""
        return f"(n, {', '.join(map(str, event_shape))})"

    def check(self, examples: Tensor, event_shape: tuple[int, ...], fits: bool) -> None:
        """Raise an InputError that names the expected form unless `fits` is true."""
        if not fits:
            hint = shape_advice("x", examples.shape, event_shape, "kakusan.data.open_data(path).test has that form")
            raise InputError(
                f"the model takes {self.values} of shape {self.batch_words(event_shape)}, got {examples.dtype} "
                f"{tuple(examples.shape)}; {hint}"
            )

    def facts(self, dataset: Dataset) -> list[str]:
        """Lines that describe the values; by default their range and mean."""
        values = dataset.train
        total = sum(part.double().sum().item() for part in values.flatten().split(NUMBERS_AT_ONCE))
        return [f"values from {values.min().item():g} to {values.max().item():g}, mean {total / values.numel():.4g}"]

    def files(
        self, samples: np.ndarray, scale: Any, labels: tuple[str, Sequence[str]] | None = None
    ) -> dict[str, bytes]:
        """Contents of additional files to write with samples, by file name; default: none.

        Args:
            samples: As `from_model` returns them.
            scale: The model's scale.
            labels: Name of the column of labels in the data, and the label of each sample; None without such a column.
        """
        return {}

    def in_unit(self, bits_per_dim: float, num_dims: int) -> float:
        """Convert bits/dim to the unit of `rate`, lower still being better."""
        return bits_per_dim

    def rate(self, bits_per_dim: float, standard_error: float | None, num_dims: int, digits: int = 4) -> str:
        """A bound with its standard error in the unit of this form, in words; by default bits/dim, lower is better."""
        stderr = "unknown" if standard_error is None else f"{standard_error:.4f}"
        return f"{bits_per_dim:z.{digits}f} ± {stderr} bits/dim"

    def cautions(self, dataset: Dataset, high: float) -> list[str]:
        """Warnings about values that are unusual for this form; `high` is the largest."""
        return []

    def save_figure(
        self, samples: np.ndarray, path: Path, facts: dict[str, Any] | None = None, columns: int | None = None
    ) -> None:
        """Write samples as a figure, if this form has one.

        Args:
            samples: As `from_model` returns them.
            path: A .png file.
            facts: Facts about their origin, for the file's metadata.
            columns: Number of examples in a row; default: as square as possible.
        """
        raise InputError(f"{self.name} have no figure; omit {path}")
