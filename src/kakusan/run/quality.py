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
from kakusan.measure.samples import ANY, FEWEST, Quality, measure_features, measure_images
from kakusan.run.trained_model import TrainedModel
from kakusan.storage import tensors

ARRAYS = ("samples", "reference", "train")  # arrays in a file of features; the last is optional


def can_measure(model: TrainedModel, dataset: Dataset, num: int) -> bool:
    """Return whether the data are images, and enough of them."""
    fits = dataset.form.has_pixels and dataset.event_shape == model.event_shape and not dataset.bits
    return fits and min(num, len(dataset.train), len(dataset.test)) >= FEWEST


def features_for(event_shape: tuple[int, ...]) -> str:
    """Return the default features: those of the digit classifier for gray images of its size, else "multiscale"."""
    return "digits" if event_shape == (1, SIDE, SIDE) else ANY


def sample_quality(
    model: TrainedModel, dataset: Dataset, num: int, seed: int = 0, features: str | None = None
) -> Quality:
    """Draw samples and compare them with real images, by default in the features of `features_for`.

    Raises:
        InputError: If the features do not apply to such images, or there are too few examples.
    """
    features = features or features_for(dataset.event_shape)
    if num < FEWEST:
        raise InputError(f"--samples must be at least {FEWEST}, got {num}")
    if dataset.bits:
        raise InputError(f"{dataset.name} is binarized, and samples are gray: compare them with --data mnist")
    if not can_measure(model, dataset, num):
        raise InputError(
            f"samples are compared with images, at least {FEWEST} of them in each part; got "
            f"{len(dataset.train):,} and {len(dataset.test):,} of shape {dataset.event_shape}. For other data compute "
            "features yourself and give --features FILE.npz"
        )
    tell(f"drawing and measuring {num:,} samples")
    return measure_images(np.asarray(model.sample(num, seed)), dataset.train, dataset.test, features)


def file_quality(path: Path) -> Quality:
    """Return the measures of features that were computed elsewhere.

    Args:
        path: `.npz` or `.safetensors` file of arrays (N, D), one row per image: samples, reference (held-out images)
            and optionally train.

    Raises:
        InputError: If the file has other content.
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
        raise InputError(f"{path}: expected {', '.join(SHIPPED)}, {ANY}, or a .npz or .safetensors file of features")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files if name in ARRAYS}
    except (OSError, ValueError, TypeError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: features cannot be read ({error})") from error
