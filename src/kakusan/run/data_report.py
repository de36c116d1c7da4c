"""Facts about data before training: duplicates, memory, time, a figure of the images, and the command to type."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import Any, cast

import torch

from kakusan.console import minutes
from kakusan.data.dataset import Dataset
from kakusan.data.duplicates import duplicates
from kakusan.noise import stream
from kakusan.run.build import build, family_of, training_loss
from kakusan.run.recipe import RECIPES

MOST_READ = 20_000  # number of images that are searched for duplicates
MOST_SHOWN = 100  # number of images in the figure
TRIED = 8  # number of examples in the step whose time is measured
STEPS = 2
MOST_PIXELS = 256 * 256  # of an image whose training time is measured


def image_lines(dataset: Dataset) -> list[str]:
    """Return lines about duplicates, memory, and the time of an epoch with the recipe images."""
    parts = [dataset.train] if dataset.train is dataset.test else [dataset.train, dataset.test]
    total = sum(len(part) for part in parts)
    found = duplicates(*(part[: MOST_READ // len(parts)] for part in parts))
    searched = min(total, sum(len(part[: MOST_READ // len(parts)]) for part in parts))
    of = "" if searched == total else f" of the first {searched:,} images"
    lines = [f"duplicates{of}: {found.equal:,} equal, {found.near:,} nearly equal among {found.compared:,} compared"]
    lines.append(f"memory: {total * dataset.num_dims / 2**20:,.1f} MiB of pixels")
    if math.prod(dataset.event_shape[1:]) > MOST_PIXELS:
        lines.append("time: not measured for images larger than 256 x 256; --size 256 makes them smaller")
        return lines
    rate = images_per_second(dataset)
    epoch = minutes(len(dataset.train) / rate)
    lines.append(f"time: recipe images trains on about {rate:,.0f} images/s here, an epoch in {epoch}")
    return lines


def images_per_second(dataset: Dataset) -> float:
    """Measure the training speed of the recipe images on such data: two steps after a warm-up step."""
    model: Any = dataclasses.replace(cast(Any, RECIPES["images"].model), clusters=0)
    model, _ = family_of(model).plan(model, dataset.event_shape, len(dataset.train))
    with torch.random.fork_rng(devices=[]):
        module = build(model, dataset.event_shape)
    loss = training_loss(module, model, dataset.train)
    indices = torch.arange(TRIED) % len(dataset.train)
    begun = 0.0
    for step in range(1 + STEPS):
        if step == 1:
            begun = time.perf_counter()
        loss(indices, stream("speed", step)).mean().backward()
    return STEPS * TRIED / max(time.perf_counter() - begun, 1e-9)


def write_figure(dataset: Dataset, path: Path) -> None:
    """Write evenly spaced training examples as one PNG; InputError if data of this kind have no figure."""
    step = max(1, math.ceil(len(dataset.train) / MOST_SHOWN))
    dataset.form.save_figure(dataset.form.samples(dataset.train[::step]), path, {"figure": dataset.name})
