"""One bound at three prices, side by side: whole paths, pairs, single latents (S43)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from kakusan.checks import check_count
from kakusan.errors import InputError
from kakusan.likelihood.chains import GetBatch
from kakusan.models.diffusion import Diffusion
from kakusan.noise import stream
from kakusan.units import bits_per_dim


@torch.no_grad()
def three_estimates(
    model: Diffusion,
    batch: GetBatch,
    num: int,
    seed: int = 0,
    images: int = 4,
    paths: int = 2,
    offset_nats: float = 0.0,
) -> dict[str, dict[str, float]]:
    """The same ELBO of the same few examples from whole paths, from pairs and from single latents (S43).

    Args:
        model: The model.
        batch: The data.
        num: How many examples there are.
        seed: Of the noise.
        images: How many examples to ask about, the first ones.
        paths: Paths for each, at least 2; pairs and singles get as many network calls as those cost.
        offset_nats: See `summarise`.

    Returns:
        For each estimator its mean and Monte-Carlo standard error in bits/dim, its network calls, and how many
        standard errors of the difference it lies from the path's.
    """
    check_count(min(images, num))
    if paths < 2:
        raise InputError(f"the spread of whole paths needs at least two of them, got {paths}")
    x = batch(torch.arange(min(images, num)))
    calls = paths * model.depth
    estimates = {
        "path": _draws(model.elbo_path, x, paths, stream(seed, "path")),
        "pair": _draws(model.elbo_pair, x, calls, stream(seed, "pair")),
        "single": _draws(model.elbo_single, x, calls, stream(seed, "single")),
    }
    result: dict[str, dict[str, float]] = {}
    for name, draws in estimates.items():
        error = (draws.var(dim=1) / draws.shape[1]).mean().sqrt().item() / math.sqrt(len(x))
        mean = bits_per_dim(draws.mean().item() + offset_nats, model.num_dims)
        result[name] = {
            "bits_per_dim": mean,
            "standard_error": -bits_per_dim(error, model.num_dims),
            "network_evaluations": len(x) * calls,
        }
        if name != "path":
            path = result["path"]
            both = math.hypot(result[name]["standard_error"], path["standard_error"])
            result[name]["errors_from_path"] = (mean - path["bits_per_dim"]) / both if both else 0.0
    return result


def _draws(
    estimate: Callable[[Tensor, torch.Generator], Tensor],
    x: Tensor,
    repeats: int,
    generator: torch.Generator,
    size: int = 250,
) -> Tensor:
    """`repeats` estimates for each example, float64 (len(x), repeats), in chunks."""
    rows = torch.arange(len(x)).repeat_interleave(repeats)
    parts = [estimate(x[part.to(x.device)], generator).double().cpu() for part in rows.split(size)]
    return torch.cat(parts).view(len(x), repeats)
