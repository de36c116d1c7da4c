"""Guidance: extrapolation from a weaker prediction through the model's own prediction.

Autoguidance takes the weaker prediction from a weaker model. Both models err in the same directions, and the weaker
model errs more. Extrapolating from the weaker prediction through the better one therefore reduces the errors.

Classifier-free guidance takes it from the same network under its null class. With scale s the prediction is
(1 - s) null + s conditional: 0 is the unconditional model and 1 the conditional one. The paper's weight is w = s - 1.

A guided chain is a `Diffusion` itself, so both kinds can be combined: `classifier_free(guided(model, weaker, 2), 3)`.

Sources: Karras et al. 2024, "Guiding a diffusion model with a bad version of itself",
https://arxiv.org/abs/2406.02507, equation 3; Ho and Salimans 2022, "Classifier-free diffusion guidance",
https://arxiv.org/abs/2207.12598, equation 6; Kynkäänniemi et al. 2024, https://arxiv.org/abs/2404.07724, for a limited
interval of noise levels.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from kakusan.errors import InputError
from kakusan.models.clusters import Classes
from kakusan.models.diffusion import Diffusion
from kakusan.models.mixture import Mixture, split


def guided(
    model: Diffusion | Mixture,
    weaker: Diffusion | Mixture,
    weight: float,
    log_snr: tuple[float, float] | None = None,
) -> Diffusion | Mixture:
    """Return a chain whose prediction is weaker + weight * (model - weaker).

    It is a complete diffusion model: it can be respaced, sampled and evaluated. As a rule its samples
    are cleaner and less varied than the model's, and its bound is worse.

    Args:
        model: The model.
        weaker: The same kind of model on the same schedule, less trained or smaller.
        weight: Guidance weight, at least 1; 1 is the model itself.
        log_snr: Interval of log SNR in which to guide; default: everywhere. Outside of it `weaker` is not evaluated.

    Raises:
        InputError: If the two do not predict the same quantity on the same schedule, or the weight is below 1.
    """
    check_guidance(weight, log_snr)
    (chain, classes), (weaker_chain, weaker_classes) = split(model), split(weaker)
    same = chain.prediction == weaker_chain.prediction and torch.equal(chain.schedule.beta, weaker_chain.schedule.beta)
    if not same or chain.event_shape != weaker_chain.event_shape:
        raise InputError("guidance needs two models of one shape that predict the same quantity on the same schedule")
    if not _same_classes(classes, weaker_classes):
        raise InputError("guidance needs two models of the same classes, or of none")
    return _extrapolated(chain, weaker_chain, classes, weight, log_snr) if weight != 1 else model


def classifier_free(model: Mixture, scale: float, log_snr: tuple[float, float] | None = None) -> Mixture:
    """Return a chain whose prediction is null + scale * (conditional - null).

    It is a complete diffusion model. With a scale above 1 its samples resemble their class more and vary less, and
    its bound on log p(x | k) is worse.

    Args:
        model: A class-conditional model trained with label dropout.
        scale: Guidance scale, at least 0. 0: unconditional; 1: the model itself; the paper's w is scale - 1.
        log_snr: Interval of log SNR in which to guide; default: everywhere. Outside of it the prediction is conditional.

    Raises:
        InputError: If the model has no null class, or the scale is negative.
    """
    chain, classes = split(model)
    if classes is None or classes.null is None:
        raise InputError(
            "classifier-free guidance needs a class-conditional model trained with label dropout: "
            "Mixture(chain, Labels(num, event_shape, dropout=0.1)), and a network of num + 1 classes"
        )
    if not 0 <= scale < math.inf:
        raise InputError(f"the guidance scale must be at least 0, got {scale}; 1 is the conditional model")
    _check_interval(log_snr)
    if scale == 1:
        return model
    without = chain.with_network(WithoutClass(chain, classes.null))
    return _extrapolated(chain, without, classes, scale, log_snr)


def _extrapolated(
    chain: Diffusion, weaker: Diffusion, classes: Classes | None, weight: float, log_snr: tuple[float, float] | None
) -> Any:
    low, high = log_snr or (-torch.inf, torch.inf)
    where = (chain.schedule.log_snr >= low) & (chain.schedule.log_snr <= high)
    network = Guided(chain, weaker, weight, where.to(chain.prior().mean.device))
    result = chain.with_network(network)
    return result if classes is None else Mixture(result, classes)


def check_guidance(weight: float, log_snr: tuple[float, float] | None = None) -> None:
    """Raise InputError for an invalid guidance weight or interval."""
    if not 1 <= weight < math.inf:
        raise InputError(f"the guidance weight must be at least 1, which disables it, got {weight}")
    _check_interval(log_snr)


def _check_interval(log_snr: tuple[float, float] | None) -> None:
    if log_snr is not None and not log_snr[0] < log_snr[1]:
        raise InputError(f"the guidance interval of log SNR must be increasing, got {log_snr[0]} to {log_snr[1]}")


def _same_classes(one: Classes | None, other: Classes | None) -> bool:
    if one is None or other is None:
        return one is other
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


class WithoutClass(nn.Module):
    """Denoiser of the unconditional chain: the network under its null class. It ignores the condition."""

    def __init__(self, model: Diffusion, null: int):
        super().__init__()
        self.model, self.null = model, null

    def forward(self, z_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Return the prediction, and v if the variance is learned."""
        prediction, v = self.model.predict(z_t, t, torch.full_like(t, self.null))
        return prediction if v is None else (prediction, v)


class Guided(nn.Module):
    """Denoiser of a guided chain; a learned variance comes from the better model."""

    def __init__(self, model: Diffusion, weaker: Diffusion, weight: float, where: Tensor):
        super().__init__()
        self.model, self.weaker, self.weight = model, weaker, weight
        self.register_buffer("where", where, persistent=False)

    def forward(self, z_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Return the guided prediction, and v if the variance is learned."""
        prediction, v = self.model.predict(z_t, t, cond)
        rows = self.where.to(t.device)[t].nonzero()[:, 0]
        if len(rows):
            known = None if cond is None else cond[rows]
            ours, theirs = prediction[rows], self.weaker.predict(z_t[rows], t[rows], known)[0]
            prediction = prediction.index_copy(0, rows, theirs + self.weight * (ours - theirs))
        return prediction if v is None else (prediction, v)
