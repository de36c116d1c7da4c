"""The parts of a diffusion model that an export to another program contains: networks, guidance and classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from kakusan.errors import InputError
from kakusan.guidance import Guided
from kakusan.models.clusters import Classes
from kakusan.models.diffusion import Diffusion
from kakusan.models.mixture import split
from kakusan.run.source import ModelSource
from kakusan.run.trained_model import TrainedModel, of_file


@dataclass(frozen=True)
class Parts:
    """Networks that sampling with the default guidance evaluates.

    Attributes:
        chain: The diffusion chain of the better network.
        networks: The denoiser, and the weaker one if there is guidance.
        weight: Guidance weight; None without guidance.
        guided: For each t = 0..T, whether the weaker network is evaluated.
        classes: Classes of a conditional model, otherwise None.
    """

    chain: Diffusion
    networks: list[nn.Module]
    weight: float | None
    guided: list[bool]
    classes: Classes | None


def shared_model(source: ModelSource) -> TrainedModel:
    """Load the model of a run or file on the CPU."""
    shared = source.read() if source.run is None else source.read_shareable()
    return of_file(shared, torch.device("cpu"), source.path)


def parts_of(model: TrainedModel, where: Path) -> Parts:
    """Return the parts of a model; InputError that names `where` if it is not a diffusion model of images."""
    if not model.sampling.denoisers or not model.family.form.has_pixels:
        raise InputError(
            f"this format holds diffusion models of images, and {where} is a {model.recipe.family} model; choose another --format"
        )
    chain, classes = split(model.sampling.chain())
    network = chain.denoiser
    if not isinstance(network, Guided):
        return Parts(chain, [network], None, [False] * (chain.depth + 1), classes)
    networks = [network.model.denoiser, network.weaker.denoiser]
    return Parts(network.model, networks, network.weight, network.where.tolist(), classes)
