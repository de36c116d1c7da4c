"""Training data for comparisons of libraries: the embedded digits, or a folder of images of one size."""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kakusan.data import ImageOptions
from kakusan.data.dataset import Dataset
from kakusan.data.open import open_data
from kakusan.measure.samples import ANY, measure_images
from kakusan.recipes import find
from kakusan.run.build import family_of
from kakusan.run.recipe import Recipe

DIGITS = "mnist"
NOTE = (
    "The Fréchet distance is that between n samples and the held-out images, in the features of fixed random filters. "
    "Its standard error is by the jackknife. Its bias is removed in the column without bias. Copies are samples "
    "three times nearer to one training image than to any other."
)


@dataclass(frozen=True)
class ImagesTask:
    """Images to train on: `data` is "mnist" or a folder of images, and `size` the side of a folder's images."""

    data: str = DIGITS
    size: int | None = None

    @staticmethod
    def add_flags(parser: argparse.ArgumentParser) -> None:
        """Add the flags --data and --size."""
        parser.add_argument("--data", default=DIGITS, help="the embedded digits (default), or a folder of images")
        parser.add_argument("--size", type=int, help="side of the images of a folder")

    @classmethod
    def given(cls, flags: argparse.Namespace) -> ImagesTask:
        """The task of parsed flags."""
        return cls(flags.data, flags.size)

    @property
    def flags(self) -> list[str]:
        """The flags that give this task."""
        return ["--data", self.data, *([] if self.size is None else ["--size", str(self.size)])]

    def check(self, record: dict[str, Any], where: Path) -> None:
        """End the program if a stored result belongs to another task; results without a task are of the digits."""
        found = record.get("task", ImagesTask().flags)
        if found != self.flags:
            raise SystemExit(
                f"{where} belongs to {' '.join(found)}, not to {' '.join(self.flags)}; choose another folder"
            )

    def dataset(self) -> Dataset:
        """The images, with a held-out part."""
        size = None if self.size is None else (self.size, self.size)
        return open_data(self.data, ImageOptions(size=size, labels="none"))

    def recipe(self, dataset: Dataset) -> Recipe:
        """Our recipe for these images, with the network that it chooses for them."""
        return recipe_on("mnist-ddpm" if self.data == DIGITS else "images", dataset)

    def quality(self, pictures: np.ndarray) -> dict[str, Any]:
        """Columns of a table for samples uint8 (n, h, w, C)."""
        if self.data == DIGITS:
            from quality import quality

            return quality(pictures)
        data = self.dataset()
        found = measure_images(pictures, data.train, data.test, ANY).values
        distance = found["frechet_distance"]
        return {
            "n": len(pictures),
            "Fréchet distance": round(distance.value, 4),
            "standard error": round(distance.standard_error or 0.0, 4),
            "without bias": round(found["frechet_distance_unbiased"].value, 4),
            "copies": round(found["copied_pixels"].value, 4),
        }


def recipe_on(name: str, dataset: Dataset) -> Recipe:
    """A recipe with the network that it chooses for a data set; a recipe of the digits is unchanged."""
    recipe = find(name)
    if recipe.data == dataset.name == DIGITS:
        return recipe
    family = family_of(recipe.model)
    model = family.for_data(recipe.model, dataset, True)
    return dataclasses.replace(recipe, model=family.plan(model, dataset.event_shape, len(dataset.train))[0])
