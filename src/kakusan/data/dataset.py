"""The data set class: a training tensor, a held-out tensor and their description."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from kakusan.columns import Column
from kakusan.data.forms import FORMS
from kakusan.data.options import ImageOptions
from kakusan.errors import InputError, printable

if TYPE_CHECKING:
    from kakusan.data.forms.base import Form

Tell = Callable[[str], None]
HELD_OUT_SHARE = 0.1
FEWEST_EXAMPLES = 2  # one for training, one held out
MOST_CLASSES = 10_000
OWN_TEST_PART = "its own test part"
RANDOM_TENTH = "a fixed random tenth"
WHOLE = "taken whole"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Examples to train on and held-out examples: images uint8 (N, C, H, W), or counts float64 (N, K).

    If opened whole, for evaluation, `train` and `test` are the same tensor.
    """

    name: str
    kind: str  # name of their form in `kakusan.data.forms.FORMS`: "images" or "counts"
    train: Tensor
    test: Tensor
    source: str  # how train and test were split
    bits: bool = False  # test is binarized to 0 and 255, train is gray; for a Bernoulli likelihood
    prepared: str = ""  # changes made to the files' examples, in words
    files: str = ""  # SHA-256 over names and contents of the files; part of the digests of version 0.3
    skipped: dict[str, str] = field(default_factory=dict)  # files that were skipped, with reasons
    train_cond: Tensor | None = None  # class index of each training example, int64 (N,); -1: unlabeled
    test_cond: Tensor | None = None
    classes: tuple[str, ...] = ()  # names of the classes
    labeled_by: str = ""  # subfolders or a table that gives the labels; empty for labels in the data's own files
    label_column: str = ""  # name of the column of a table that was taken out as its labels
    names: tuple[str, ...] = ()  # file of each example of a folder that is taken whole
    columns: tuple[Column, ...] = ()  # columns of a table
    contents: str = ""  # number, colors and sizes of the files of a folder

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(self.train.shape[1:])

    @property
    def form(self) -> Form:
        """Form of the examples."""
        return FORMS[self.kind]()

    @property
    def num_dims(self) -> int:
        """Numbers in one example."""
        return math.prod(self.event_shape)

    def digest(self) -> str:
        """SHA-256 over the examples of both parts; equal digests mean equal data, even under different names."""
        return self._digests[0]

    def matches(self, digest: object) -> bool:
        """Check a recorded digest against these data; digests of version 0.3, which include file names, are accepted."""
        return digest in self._digests

    @functools.cached_property
    def _digests(self) -> tuple[str, str]:  # cached: it reads all data and is needed several times
        digest = hashlib.sha256()
        for part in (self.train, self.test):
            digest.update(repr((tuple(part.shape), str(part.dtype))).encode())
            digest.update(part.contiguous().numpy().data)
        with_files = digest.copy()
        with_files.update(self.files.encode())
        return digest.hexdigest(), with_files.hexdigest()

    def describe(self) -> str:
        """One line with the number and form of the examples, the split and the preparation."""
        return "; ".join(
            [f"{self.name}: {self.examples()}", self.split(), *filter(None, [self.labels(), self.prepared])]
        )

    def examples(self) -> str:
        """Number and form of the examples, in words."""
        total = len(self.train) + (0 if self.train is self.test else len(self.test))
        return self.form.describe(total, self.event_shape, self.bits)

    def split(self) -> str:
        """Numbers of training and held-out examples, in words."""
        if self.train is self.test:
            return WHOLE
        return f"{len(self.train):,} to train, {len(self.test):,} held out ({self.source})"

    def labels(self) -> str:
        """Number of classes, their origin and the unlabeled training examples in words; empty without labels."""
        if not self.classes or self.train_cond is None:
            return ""
        origin = f" from {self.labeled_by}" if self.labeled_by else ""
        missing = int((self.train_cond < 0).sum())
        classes = f"{len(self.classes):,} class{'es' * (len(self.classes) > 1)}"
        return f"{classes}{origin}" + (f", {missing:,} training examples unlabeled" * bool(missing))


class DataKind(Protocol):
    """Reader of one kind of data for --data, registered in `kakusan.data.open.KINDS`."""

    summary: str  # a noun phrase for help and errors, e.g. "a .npy or .npz file of images or counts"
    options: tuple[str, ...]  # fields of ImageOptions that it accepts

    def recognizes(self, path: Path) -> bool:
        """Recognize a path of this kind by its name, without reading files."""

    def open(self, path: Path, options: ImageOptions, whole: bool, tell: Tell | None) -> Dataset:
        """Read all data and return the data set; with `whole`, hold nothing out of data without a test part."""


def from_arrays(
    name: str,
    kind: str,
    train: Tensor,
    test: Tensor | None = None,
    *,
    labels: np.ndarray | None = None,
    test_labels: np.ndarray | None = None,
    whole: bool = False,
    source: str = OWN_TEST_PART,
    certain: bool = False,
) -> Dataset:
    """Data set with its own test part, or with a tenth held out by a fixed permutation.

    Images whose only values are 0 and 1 are taken as black and white: 1 becomes 255.

    Args:
        name: Name in messages and records.
        kind: "images", uint8 (N, C, H, W), or "counts", float64 whole numbers (N, K).
        train: Examples to train on, or to be split.
        test: Held-out examples.
        labels: Class of each example of `train`, numbers or text.
        test_labels: Class of each example of `test`.
        whole: Keep examples without a test part together, as `train` and as `test`.
        source: How `test` was held out, for the record.
        certain: Take labels as classes even if almost all differ, because the user chose them.

    Raises:
        InputError: If a part is empty, or the parts differ in shape.
    """
    if test is not None and train.shape[1:] != test.shape[1:]:
        raise InputError(
            f"{name}: training and test examples must have one shape, got {tuple(train.shape[1:])} and "
            f"{tuple(test.shape[1:])}"
        )
    indices, test_indices, classes = class_indices(labels, test_labels, certain)
    parts, prepared = FORMS[kind]().prepare([train] if test is None else [train, test])
    train, test = parts[0], None if test is None else parts[1]
    if labels is not None and len(labels) and not classes:
        prepared = "; ".join(filter(None, [prepared, "labels left out: almost all differ"]))
    if test is None:
        fewest = 1 if whole else FEWEST_EXAMPLES
        if len(train) < fewest:
            raise InputError(f"{name}: expected at least {fewest} example{'s'[: fewest - 1]}, got {len(train)}")
        if whole:
            train = test = train.contiguous()
            test_indices, source = indices, WHOLE
        else:
            rows, held_out = split_rows(len(train))
            train, test = train[rows], train[held_out]
            if indices is not None:
                indices, test_indices = indices[rows], indices[held_out]
            source = RANDOM_TENTH
    if not len(train) or not len(test):
        raise InputError(f"{name}: expected examples to train on and to hold out, got {len(train)} and {len(test)}")
    dataset = Dataset(name, kind, train.contiguous(), test.contiguous(), source, prepared=prepared)
    return replace(dataset, train_cond=indices, test_cond=test_indices, classes=classes)


def split_rows(count: int) -> tuple[Tensor, Tensor]:
    """Row indices for training and of a held-out tenth, drawn with a fixed seed, for data without a test part."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    held_out = max(1, round(HELD_OUT_SHARE * count))
    return order[held_out:], order[:held_out]


def class_indices(
    labels: np.ndarray | None, test_labels: np.ndarray | None, certain: bool = False
) -> tuple[Tensor | None, Tensor | None, tuple[str, ...]]:
    """Class index of each training and each held-out example, int64, and the classes' names in order.

    Names that are all whole numbers from 0 are ordered by value, so that "10" follows "9". The index -1 means unlabeled.
    An empty text is unlabeled. The number -1 is unlabeled if there are at least two other numbers.
    If almost all values differ, they are not taken as classes, and none are returned, unless `certain` is true.
    """
    given = [part for part in (labels, test_labels) if part is not None]
    if labels is None or not labels.size:
        return None, None, ()
    values, inverse = np.unique(np.concatenate(given), return_inverse=True)
    if len(values) > min(MOST_CLASSES, len(values) if certain else max(2, len(inverse) // 2)):
        return None, None, ()
    if values.dtype.kind == "U" and all(not value or value.isdecimal() for value in values):
        digits = [value.lstrip("0") for value in values]
        order = sorted(range(len(values)), key=lambda place: (len(digits[place]), digits[place], values[place]))
        values, inverse = values[order], np.argsort(order)[inverse]
    indices = torch.from_numpy(inverse.astype(np.int64))
    if values[0] == "" or (values.dtype.kind == "i" and values[0] == -1 and len(values) > 2):  # the first in order
        values, indices = values[1:], indices - 1
    train, test = indices[: len(labels)], indices[len(labels) :]
    names = tuple(printable(str(value)) for value in values.tolist())
    return train, test if test_labels is not None else None, names
