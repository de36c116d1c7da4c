"""Guidance by a weaker self: go further away from what a less trained copy of the model would have said.

Both copies err in the same directions, the weaker one more; the step from it to the better one, prolonged, leads
away from the errors. Source: Karras et al. 2024, "Guiding a diffusion model with a bad version of itself",
equation 3; limited to middle noise as in Kynkäänniemi et al. 2024.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from kakusan.errors import InputError
from kakusan.models.clusters import Clusters
from kakusan.models.diffusion import Diffusion


def guided(model: Diffusion, weaker: Diffusion, weight: float, log_snr: tuple[float, float] | None = None) -> Diffusion:
    """A chain whose prediction is weaker + weight * (model - weaker).

    It is a diffusion model of its own: it can be respaced, sampled, and its bound evaluated. As a rule its samples
    are cleaner and less varied than the model's, and its bound is worse.

    Args:
        model: The model.
        weaker: The same kind of model on the same schedule, less trained or smaller.
        weight: 1 is the model itself.
        log_snr: Guide only where the log signal-to-noise ratio lies in this range; everywhere unless given. Outside
            of it `weaker` is not asked.

    Raises:
        InputError: If the two do not predict the same thing on the same schedule, or the weight is below 1.
    """
    check_guidance(weight, log_snr)
    same = model.prediction == weaker.prediction and torch.equal(model.schedule.beta, weaker.schedule.beta)
    if not same or model.event_shape != weaker.event_shape:
        raise InputError("guidance needs two models of one shape that predict the same thing on the same schedule")
    if not _same_clusters(model.clusters, weaker.clusters):
        raise InputError("guidance needs two models of the same clusters, or of none")
    if weight == 1:
        return model
    low, high = log_snr or (-torch.inf, torch.inf)
    where = (model.schedule.log_snr >= low) & (model.schedule.log_snr <= high)
    return model.of_network(_Guided(model, weaker, weight, where.to(model.prior().mean.device)))


def check_guidance(weight: float, log_snr: tuple[float, float] | None = None) -> None:
    """InputError for a weight or a range that no model can be guided with."""
    if not 1 <= weight < math.inf:
        raise InputError(f"the weight of guidance must be at least 1, which is none, got {weight}")
    if log_snr is not None and not log_snr[0] < log_snr[1]:
        raise InputError(f"guidance needs a rising range of log SNR, got {log_snr[0]} to {log_snr[1]}")


def _same_clusters(one: Clusters | None, other: Clusters | None) -> bool:
    if one is None or other is None:
        return one is other
    return torch.equal(one.centres, other.centres) and torch.equal(one.share, other.share)


class _Guided(nn.Module):
    """(z_t, t, and the cluster of a model of clusters) -> prediction; a learned variance is the better model's."""

    def __init__(self, model: Diffusion, weaker: Diffusion, weight: float, where: Tensor):
        super().__init__()
        self.model, self.weaker, self.weight = model, weaker, weight
        self.register_buffer("where", where, persistent=False)

    def forward(self, z_t: Tensor, t: Tensor, cluster: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        prediction, v = self.model.predict(z_t, t, cluster)
        rows = self.where.to(t.device)[t].nonzero()[:, 0]
        if len(rows):
            known = None if cluster is None else cluster[rows]
            ours, theirs = prediction[rows], self.weaker.predict(z_t[rows], t[rows], known)[0]
            prediction = prediction.index_copy(0, rows, theirs + self.weight * (ours - theirs))
        return prediction if v is None else (prediction, v)
