"""The samples of a model, measured."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kakusan.console import tell
from kakusan.data.dataset import Dataset
from kakusan.errors import InputError
from kakusan.measure.classifier import SHIPPED, SIDE
from kakusan.measure.samples import FEWEST, Quality, measure_features, measure_images
from kakusan.run.trained_model import TrainedModel
from kakusan.storage import tensors

ARRAYS = ("samples", "reference", "train")  # of a file of features; the last may be missing


def can_measure(model: TrainedModel, dataset: Dataset, num: int) -> bool:
    """Whether the shipped features are of pictures such as these, and there are enough of them."""
    fits = dataset.kind == "images" and dataset.event_shape == (1, SIDE, SIDE) and not dataset.bits
    return fits and not model.is_counts and min(num, len(dataset.train), len(dataset.test)) >= FEWEST


def sample_quality(model: TrainedModel, dataset: Dataset, num: int, seed: int = 0, features: str = "digits") -> Quality:
    """Of so many samples, drawn as `TrainedModel.sample` draws them, by the features of a shipped classifier.

    Raises:
        InputError: Where there is no such classifier, or it is of no use for these data.
    """
    if num < FEWEST:
        raise InputError(f"--samples must be at least {FEWEST}, got {num}")
    if dataset.bits:
        raise InputError(f"{dataset.name} is held out as bits, and samples are grey: measure them with --data mnist")
    if not can_measure(model, dataset, num):
        raise InputError(
            f"the shipped features are of grey pictures, 28 x 28, at least {FEWEST} to train on and to hold out; got "
            f"{len(dataset.train):,} and {len(dataset.test):,} of shape {dataset.event_shape}. For others compute features "
            "elsewhere and give --features FILE.npz"
        )
    tell(f"drawing and measuring {num:,} samples")
    return measure_images(np.asarray(model.sample(num, seed)), dataset.train, dataset.test, features)


def file_quality(path: Path) -> Quality:
    """Of features that were computed elsewhere: `.npz` or `.safetensors` with arrays samples, reference and perhaps train.

    Each is (N, D): a row of features for each sample, each held-out example, each training example.

    Raises:
        InputError: If the file cannot be read so.
    """
    arrays = _read(path)
    if missing := [name for name in ARRAYS[:2] if name not in arrays]:
        raise InputError(f"{path}: expected arrays samples and reference, {' and '.join(missing)} missing")
    found = [arrays[name] for name in ARRAYS if name in arrays]
    for name, part in zip(ARRAYS, found):
        if part.ndim != 2 or part.shape[1] != found[0].shape[1] or not part.is_floating_point():
            raise InputError(
                f"{path}: expected numbers (N, D) with one D, got {tuple(part.shape)} of {part.dtype} for {name}"
            )
        if not part.isfinite().all():
            raise InputError(f"{path}: {name} holds NaN or infinite values")
    return measure_features(path.name, *found)


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return tensors.read(path)[0]
    if path.suffix != ".npz":
        raise InputError(f"{path}: expected {' or '.join(SHIPPED)}, or a .npz or .safetensors file of features")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files if name in ARRAYS}
    except (OSError, ValueError, TypeError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: features cannot be read ({error})") from error
