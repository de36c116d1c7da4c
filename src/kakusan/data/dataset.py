"""What every kind of data becomes: a training and a held-out tensor, and what is known about them."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from kakusan.errors import InputError

Kind = Literal["images", "counts"]
HELD_OUT_SHARE = 0.1
FEWEST_EXAMPLES = 2  # one to train on, one to hold out


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images are uint8 (N, C, H, W), counts float64 whole numbers (N, K)."""

    name: str
    kind: Kind
    train: Tensor
    test: Tensor
    source: str  # how `train` and `test` came apart, for the record
    bits: bool = False  # `test` is a draw of 0 and 255 from grey levels, `train` is grey: for a Bernoulli likelihood
    prepared: str = ""  # what was done to the files' pictures to make one tensor, in words
    files: str = ""  # SHA-256 over names and contents, where every example was a file of its own
    skipped: dict[str, str] = field(default_factory=dict)  # files that were left out, and why

    @property
    def event_shape(self) -> tuple[int, ...]:
        return tuple(self.train.shape[1:])

    @property
    def num_dims(self) -> int:
        return self.train[0].numel()

    def digest(self) -> str:
        """SHA-256 over both parts and the files they came from: two runs with the same digest saw the same data."""
        return self._digest

    @functools.cached_property
    def _digest(self) -> str:  # tens of megabytes, asked for at several places of a run's beginning
        digest = hashlib.sha256()
        for part in (self.train, self.test):
            digest.update(repr((tuple(part.shape), str(part.dtype))).encode())
            digest.update(part.contiguous().numpy().data)
        digest.update(self.files.encode())
        return digest.hexdigest()

    def describe(self) -> str:
        """One line for people."""
        total = len(self.train) + len(self.test)
        split = f"{len(self.train):,} to train, {len(self.test):,} held out ({self.source})"
        if self.kind == "counts":
            return f"{self.name}: {total:,} count vectors of {self.event_shape[0]} categories; {split}"
        channels, height, width = self.event_shape
        kind = {1: "grey", 3: "colour", 4: "colour with alpha"}.get(channels, f"{channels}-channel")
        prepared = f"; {self.prepared}" if self.prepared else ""
        return f"{self.name}: {total:,} {kind} images, {height} x {width}, {'bits' if self.bits else '8-bit'}; {split}{prepared}"


def from_arrays(name: str, kind: Kind, train: Tensor, test: Tensor | None) -> Dataset:
    """With its own test part, or with a tenth held out by a fixed permutation."""
    if test is not None:
        if train.shape[1:] != test.shape[1:]:
            raise InputError(
                f"{name}: training and test examples must have one shape, got {tuple(train.shape[1:])} and "
                f"{tuple(test.shape[1:])}"
            )
        source = "its own test part"
    else:
        if len(train) < FEWEST_EXAMPLES:
            raise InputError(f"{name}: expected at least {FEWEST_EXAMPLES} examples, got {len(train)}")
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
        held = max(1, round(HELD_OUT_SHARE * len(train)))
        train, test = train[order[held:]], train[order[:held]]
        source = "a fixed random tenth"
    if not len(train) or not len(test):
        raise InputError(f"{name}: expected examples to train on and to hold out, got {len(train)} and {len(test)}")
    return Dataset(name, kind, train.contiguous(), test.contiguous(), source)
