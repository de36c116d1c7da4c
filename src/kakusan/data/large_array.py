"""A `.npy` file of images that is larger than memory, converted to a cache image by image."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from kakusan.data.arrays import channels_second, dataset_of, kind_of_array
from kakusan.data.cache import Cache, Ticker, state_of_files
from kakusan.data.dataset import RANDOM_TENTH, WHOLE, Dataset, Tell, split_rows
from kakusan.data.numeric import is_series
from kakusan.data.options import ImageOptions
from kakusan.errors import printable

ROWS_NDIM = 2  # counts and tables


def open_large(path: Path, options: ImageOptions, whole: bool, tell: Tell | None) -> Dataset | None:
    """Return the data set of the file's images from its cache; None for counts, tables and series."""
    name, array = printable(path.name), np.load(path, mmap_mode="r", allow_pickle=False)
    if array.ndim == ROWS_NDIM or is_series(array):
        return None
    kind_of_array(name, array)  # InputError for another type of numbers
    cache = Cache.of(path, options, whole, lambda: state_of_files(path.parent, [path.name]))
    assert cache is not None, "the caller has asked for one"
    images = channels_second(name, array)

    def convert() -> Dataset:
        tick, pixels = Ticker(tell, name, len(images)), cache.start(images.shape[1:])
        for index, image in enumerate(images):
            tick(index)
            pixels.append(np.asarray(image, dtype=np.uint8))
        few = dataset_of(name, np.array(array[:2]), whole=whole)  # checks the shape
        words = "values 0 and 1 taken as black and white (0 and 255)" if pixels.most == 1 else ""
        few, channels = dataclasses.replace(few, prepared=words), images.shape[1]
        if whole:
            everything = pixels.stack("train", range(len(images)), channels)
            return dataclasses.replace(few, train=everything, test=everything, source=WHOLE)
        train, test = split_rows(len(images))
        return dataclasses.replace(
            few,
            train=pixels.stack("train", train.tolist(), channels),
            test=pixels.stack("test", test.tolist(), channels),
            source=RANDOM_TENTH,
        )

    return cache.open() or cache.made(convert)
