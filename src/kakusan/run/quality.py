"""Measures of a model's samples."""

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

ARRAYS = ("samples", "reference", "train")  # in a file of features; the last is optional


def can_measure(model: TrainedModel, dataset: Dataset, num: int) -> bool:
    """True if a shipped classifier fits these images and there are enough of them."""
    fits = dataset.event_shape == model.event_shape == (1, SIDE, SIDE) and not dataset.bits
    return fits and min(num, len(dataset.train), len(dataset.test)) >= FEWEST


def sample_quality(model: TrainedModel, dataset: Dataset, num: int, seed: int = 0, features: str = "digits") -> Quality:
    """Draw samples and compare them with real images, in the features of a shipped classifier.

    Raises:
        InputError: If no shipped classifier fits the data, or there are too few examples.
    """
    if num < FEWEST:
        raise InputError(f"--samples must be at least {FEWEST}, got {num}")
    if dataset.bits:
        raise InputError(f"{dataset.name} is binarized, and samples are gray: compare them with --data mnist")
    if not can_measure(model, dataset, num):
        raise InputError(
            f"the shipped classifiers are for gray images of 28 x 28, at least {FEWEST} of them in each part; got "
            f"{len(dataset.train):,} and {len(dataset.test):,} of shape {dataset.event_shape}. For other data compute "
            "features yourself and give --features FILE.npz"
        )
    tell(f"drawing and measuring {num:,} samples")
    return measure_images(np.asarray(model.sample(num, seed)), dataset.train, dataset.test, features)


def file_quality(path: Path) -> Quality:
    """Measures of features that were computed elsewhere.

    Args:
        path: `.npz` or `.safetensors` file of arrays (N, D), a row for each image: samples, reference (held-out images)
            and optionally train.

    Raises:
        InputError: If the file holds something else.
    """
    arrays = _read(path)
    if missing := [name for name in ARRAYS[:2] if name not in arrays]:
        raise InputError(f"{path}: expected arrays samples and reference, {' and '.join(missing)} missing")
    found = [arrays[name] for name in ARRAYS if name in arrays]
    for name, part in zip(ARRAYS, found):
        if part.ndim != 2 or part.shape[1] != found[0].shape[1] or not part.is_floating_point():
            raise InputError(
                f"{path}: expected float arrays (N, D) with the same D, got {tuple(part.shape)} of {part.dtype} for {name}"
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
