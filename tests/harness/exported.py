"""Model files with random weights, for tests of export formats."""

import dataclasses

import torch

from kakusan.models.mixture import split
from kakusan.recipes import find
from kakusan.run.build import build
from kakusan.run.families.diffusion import DiffusionConfig
from kakusan.run.model_file import ExportedModel, Facts, Source

SMALL = {"depth": 40, "width": 8, "inner_width": 16, "blocks": 1}


def randomized(config, event_shape, seed):
    """Weights that are not zero anywhere, and clusters with shares."""
    torch.manual_seed(seed)
    module = build(config, event_shape)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.2 * torch.randn_like(parameter))
    classes = split(module)[1]
    if classes is not None:
        classes.share.copy_(torch.arange(classes.num).double() / sum(range(classes.num)))
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def write_model(path, event_shape=(1, 8, 8), early=False, name="small", summary="A small model", card="", **settings):
    """An exported diffusion model; with `early`, other weights guide it."""
    config = DiffusionConfig(**SMALL | settings)
    recipe = dataclasses.replace(find("mnist-ddpm"), name=name, summary=summary, model=config)
    facts = Facts(recipe, event_shape, Source("noise", "images", "0" * 64), {"kakusan": "0.4.0"})
    weights = randomized(config, event_shape, 0)
    other = randomized(config, event_shape, 1) if early else None
    path.write_bytes(ExportedModel(facts, weights, other, card).to_bytes())
    return path
