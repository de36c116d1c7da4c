"""The importance-weighted bound of stored examples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kakusan import distributed
from kakusan.bound import importance_bound
from kakusan.errors import InputError
from kakusan.likelihood.classes import assigned, with_classes
from kakusan.likelihood.evaluation import Estimate, var_of_mean
from kakusan.noise import stream
from kakusan.progress import progress
from kakusan.solvers.loop import BATCH

if TYPE_CHECKING:
    from kakusan.run.trained_model import TrainedModel


def importance_estimate(
    model: TrainedModel, data: Tensor, samples: int, seed: int, labels: Tensor | None = None
) -> Estimate:
    """Estimate the bound with `samples` draws of the latents per example; InputError for a family without this bound."""
    if not model.family.draws_latents:
        raise InputError(
            "the importance-weighted bound exists only for a VAE or hierarchical VAE; omit it for other models"
        )
    batch, num, done = model.batches(data, seed), len(data), {}
    known = assigned(model.chain, batch, num, labels, seed)
    for number, part in enumerate(progress(torch.arange(num).split(BATCH), "measuring the bound")):
        if distributed.owned_by_rank(number):
            generator = stream(seed, "importance", int(part[0]))
            cond = None if known is None else known.k[part].to(model.device)
            with torch.no_grad():
                bound = importance_bound(model.chain, batch(part), samples, generator, cond=cond)
                done[number] = {"bound": bound.cpu()}
    bounds = torch.cat([one["bound"] for one in distributed.all_gather(done)]).double()
    per_draw = model.family.evaluations_per_draw(model.chain)
    saved = samples - 1 if per_draw > model.chain.depth else 0  # a learned lowest encoder is evaluated once per example
    evaluations = num * (per_draw * samples - saved)
    var = var_of_mean(bounds)
    estimate = Estimate(
        {"bound": bounds}, {"bound": var}, var, None, evaluations, f"importance-weighted, K = {samples}"
    )
    return estimate if known is None else with_classes(estimate, known)
