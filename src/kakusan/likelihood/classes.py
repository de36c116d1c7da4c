"""Class probabilities by Bayes' rule, p(k | x) proportional to p(k) p(x | k), with bounds in place of log p(x | k).

All classes of an example are evaluated with the same noise, so their differences have far less noise than their values.
A class that is clearly worse than the best one gets no further evaluations.

Sources: Li et al. 2023, "Your Diffusion Model is Secretly a Zero-Shot Classifier", https://arxiv.org/abs/2303.16203, and
Clark and Jaini 2023, https://arxiv.org/abs/2303.15233, for common noise and for dropping classes early.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kakusan.checks import check_count
from kakusan.distributions import add
from kakusan.errors import InputError
from kakusan.likelihood.chains import GetBatch
from kakusan.likelihood.evaluation import Estimate, var_of_mean
from kakusan.likelihood.scores import by_timesteps, draws_of
from kakusan.models.clusters import UNLABELED, Classes, draw_classes
from kakusan.models.mixture import Mixture, log_prior, split
from kakusan.noise import stream

CHUNK = 250  # largest number of examples at a time
DRAWS_AT_ONCE = 2**23  # largest number of draws at a time, over examples and classes
FIRST = 16  # evaluations of every class
MOST = 256  # largest number of evaluations of one class
CLEAR_NATS = 5.0  # a class with less than exp(-5) of the best one's probability is dropped
CLEAR_ERRORS = 5.0  # if it is also worse by this many standard errors


@dataclass(frozen=True)
class Posterior:
    """Class probabilities of n examples by Bayes' rule.

    Attributes:
        probs: p(k | x), float64 (n, K).
        bounds: Mean bound on log p(x | k) in nats, float64 (n, K).
        stderr: Monte Carlo standard error of the log-odds between the two likeliest classes, in nats (n,).
        evaluations: Total number of network evaluations, or of draws of a bound.
        log_odds: Log-odds between the two likeliest classes in nats (n,); infinite if only one is possible.
    """

    probs: Tensor
    bounds: Tensor
    stderr: Tensor
    evaluations: int
    log_odds: Tensor

    @property
    def k(self) -> Tensor:
        """The likeliest class of each example, int64 (n,)."""
        return self.probs.argmax(1)


@torch.no_grad()
def posterior(model: Mixture, batch: GetBatch, num: int, most: int = MOST, seed: int = 0) -> Posterior:
    """Compute p(k | x) of each example from at most `most` evaluations per class.

    Args:
        model: A mixture over classes.
        batch: The data, as a function from indices to x in model values.
        num: Number of examples.
        most: Largest number of evaluations of one class of one example, at least 2. The first round has 16, and each
            further one doubles the total.
        seed: Random seed.

    Raises:
        InputError: If there is no example, or fewer than 2 evaluations.
    """
    check_count(num)
    if isinstance(most, bool) or not isinstance(most, int) or most < 2:
        raise InputError(f"a class needs at least 2 evaluations for a standard error, got {most}; 256 is the default")
    at_once = max(1, min(CHUNK, DRAWS_AT_ONCE // (model.classes.num * most)))
    parts = [_posterior(model, batch(rows), most, seed) for rows in torch.arange(num).split(at_once)]
    return Posterior(
        probs=torch.cat([part.probs for part in parts]),
        bounds=torch.cat([part.bounds for part in parts]),
        stderr=torch.cat([part.stderr for part in parts]),
        evaluations=sum(part.evaluations for part in parts),
        log_odds=torch.cat([part.log_odds for part in parts]),
    )


def _posterior(model: Mixture, x: Tensor, most: int, seed: int) -> Posterior:
    prior = model.classes.share.double().log().cpu()
    draws = torch.full((len(x), len(prior), most), math.nan, dtype=torch.float64)
    candidates = (prior > -math.inf).expand(len(x), -1)
    undecided, done = candidates, 0
    while True:
        more = min(max(FIRST, done), most - done)
        for k, rows in _pairs(model, undecided):
            noise = stream(seed, "classes", done, device=x.device)
            found = draws_of(model, x[rows.to(x.device)], more, noise, k.to(x.device))
            draws[rows, k, done : done + more] = found
        done += more
        best = (draws.nanmean(2) + prior).masked_fill(~candidates, -math.inf).argmax(1)
        gap, stderr = _gaps(draws, best)
        gap = gap + prior[best][:, None] - prior
        candidates = candidates & ~((gap > CLEAR_NATS) & (gap > CLEAR_ERRORS * stderr))
        undecided = candidates & (candidates.sum(1, keepdim=True) > 1)
        if done >= most or not undecided.any():
            break
    gap, rows = gap.masked_fill(prior == -math.inf, math.inf), torch.arange(len(x))
    second = gap.scatter(1, best[:, None], math.inf).argmin(1)
    bounds = draws[rows, best].nanmean(1)[:, None] - gap + prior[best][:, None] - prior
    odds = gap.scatter(1, best[:, None], math.inf).amin(1)
    return Posterior((-gap).softmax(1), bounds, stderr[rows, second], int((~draws.isnan()).sum()), odds)


def _pairs(model: Mixture, undecided: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Return the classes and examples of each batch as index tensors, int64 (m,) each.

    The noise of a diffusion model is equal for all rows of a batch. In other models it depends on the row, so each class
    has a separate batch.
    """
    pairs = undecided.T.nonzero()
    parts = pairs.split(CHUNK if by_timesteps(model.chain) else undecided.sum(0).tolist())
    return ((part[:, 0], part[:, 1]) for part in parts if len(part))


def _gaps(draws: Tensor, best: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of the best class's draws minus those of each class, and its standard error, each (n, K).

    Classes share their noise, so draws are compared in pairs, where both classes have one.
    """
    apart = draws[torch.arange(len(draws)), best][:, None] - draws
    number = (~apart.isnan()).sum(2)
    mean = apart.nanmean(2)
    var = (apart - mean[:, :, None]).square().nansum(2) / (number - 1)
    return mean, (var / number).sqrt()


@dataclass(frozen=True)
class Assigned:
    """Class drawn for each example, with which its bound on log p(x) is estimated.

    Attributes:
        k: A draw from q(k | x), the label itself for a labeled example; int64 (n,).
        log_prior: sum_k q(k | x) (log p(k) - log q(k | x)), nats (n,).
        evaluations: Number of network evaluations spent on q(k | x).
    """

    k: Tensor
    log_prior: Tensor
    evaluations: int = 0


@torch.no_grad()
def assigned(model: Any, batch: GetBatch, num: int, labels: Tensor | None, seed: int = 0) -> Assigned | None:
    """Draw a class for each example of a model conditional on labels; None if x determines k or there are no classes.

    q(k | x) is the label if there is one. Otherwise it comes from the cluster table of `Labels`, or from Bayes' rule.

    Args:
        model: The chain.
        batch: The data, as a function from indices to x in model values.
        num: Number of examples.
        labels: Class of each example, int64 (n,), -1 for unlabeled; or q(k | x), float64 (n, K). Default: unlabeled.
        seed: Random seed.

    Raises:
        InputError: If there are labels, and the model has none.
    """
    classes = split(model)[1]
    if classes is None or not classes.labeled:
        if labels is not None:
            raise InputError("labels were given, and this model is not conditional on labels; leave them out")
        return None
    if labels is not None and labels.shape == (num, classes.num) and labels.is_floating_point():
        return _drawn(labels.double().cpu(), classes, seed)
    k = torch.full((num,), UNLABELED) if labels is None else labels.cpu()
    if k.shape != (num,) or k.dtype != torch.int64:
        raise InputError(
            f"labels must be int64 of shape ({num},), one for each example, got {k.dtype} {tuple(k.shape)}"
        )
    classes.validate(k.clamp(min=0))
    q, evaluations = F.one_hot(k.clamp(min=0), classes.num).double(), 0
    missing = (k == UNLABELED).nonzero()[:, 0]
    if len(missing) and classes.holes:
        parts = [classes.probs_of(batch(missing[rows])) for rows in torch.arange(len(missing)).split(CHUNK)]
        q[missing] = torch.cat([part for part in parts if part is not None]).cpu()
    elif len(missing):
        found = posterior(model, lambda rows: batch(missing[rows]), len(missing), seed=seed)
        q[missing], evaluations = found.probs, found.evaluations
    return _drawn(q, classes, seed, evaluations)


def _drawn(q: Tensor, classes: Classes, seed: int, evaluations: int = 0) -> Assigned:
    prior = log_prior(q, classes.share.double().cpu())
    return Assigned(draw_classes(q, stream(seed, "class of")), prior, evaluations)


def with_classes(estimate: Estimate, known: Assigned) -> Estimate:
    """Turn an estimate of the bound given the drawn classes into one of the bound on log p(x)."""
    terms = {"class": known.log_prior, **estimate.terms}
    return dataclasses.replace(
        estimate,
        terms=terms,
        vars={"class": var_of_mean(known.log_prior), **estimate.vars},
        var=var_of_mean(add(terms.values())),
        evaluations=estimate.evaluations + known.evaluations,
    )
