"""Comparison of the three estimators of the ELBO: whole paths, pairs and single latents (S43)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from kakusan.checks import check_count
from kakusan.errors import InputError
from kakusan.likelihood.chains import GetBatch
from kakusan.models.diffusion import Diffusion
from kakusan.models.mixture import Mixture, split
from kakusan.noise import stream
from kakusan.progress import progress
from kakusan.units import bits_per_dim

Estimator = Callable[[Tensor, torch.Generator], Tensor]


@torch.no_grad()
def three_estimates(
    model: Diffusion | Mixture,
    batch: GetBatch,
    num: int,
    seed: int = 0,
    images: int = 4,
    paths: int = 2,
    offset_nats: float = 0.0,
) -> dict[str, dict[str, float]]:
    """Estimate the ELBO of the same few examples from whole paths, from pairs and from single latents (S43).

    Args:
        model: A `Diffusion`, or a `Mixture` of them whose classes are determined by x.
        batch: The data, as a function from indices to x in model values.
        num: Number of available examples.
        seed: Random seed.
        images: Number of examples to evaluate, from the first on.
        paths: Paths per example, at least 2; pairs and single latents use as many network evaluations.
        offset_nats: See `summarize`.

    Returns:
        Values by estimator: mean and Monte Carlo standard error in bits/dim, and number of network evaluations. The
        last value is the distance from the mean of the paths, in standard errors of the difference.
    """
    check_count(min(images, num))
    if paths < 2:
        raise InputError(f"the standard error of whole paths needs at least two of them, got {paths}")
    x = batch(torch.arange(min(images, num)))
    evaluations = paths * model.depth
    chain, classes = split(model)

    def of(estimator: Callable[..., Tensor]) -> Estimator:
        if classes is None:
            return estimator

        def with_class(x: Tensor, generator: torch.Generator) -> Tensor:
            k = classes.certain(x)
            return estimator(x, generator, cond=k) + classes.log_prob(k).to(x.dtype)

        return with_class

    estimates = {
        "path": _draws(of(chain.elbo_path), x, paths, stream(seed, "path")),
        "pair": _draws(of(chain.elbo_pair), x, evaluations, stream(seed, "pair")),
        "single": _draws(of(chain.elbo_single), x, evaluations, stream(seed, "single")),
    }
    result: dict[str, dict[str, float]] = {}
    for name, draws in estimates.items():
        error = (draws.var(dim=1) / draws.shape[1]).mean().sqrt().item() / math.sqrt(len(x))
        mean = bits_per_dim(draws.mean().item() + offset_nats, model.num_dims)
        result[name] = {
            "bits_per_dim": mean,
            "standard_error": -bits_per_dim(error, model.num_dims),
            "network_evaluations": len(x) * evaluations,
        }
        if name != "path":
            path = result["path"]
            both = math.hypot(result[name]["standard_error"], path["standard_error"])
            result[name]["errors_from_path"] = (mean - path["bits_per_dim"]) / both if both else 0.0
    return result


def _draws(
    estimate: Estimator,
    x: Tensor,
    repeats: int,
    generator: torch.Generator,
    size: int = 250,
) -> Tensor:
    """`repeats` estimates for each example, float64 (len(x), repeats), in chunks."""
    rows = torch.arange(len(x)).repeat_interleave(repeats)
    chunks = progress(rows.split(size), "comparing the estimators")
    parts = [estimate(x[part.to(x.device)], generator).cpu().double() for part in chunks]
    return torch.cat(parts).view(len(x), repeats)
