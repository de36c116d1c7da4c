"""Log-likelihood bounds of single examples, each with its standard error."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kakusan.chain import LatentChain
from kakusan.checks import check_count
from kakusan.devices import precise
from kakusan.distributions import add, copies
from kakusan.errors import InputError
from kakusan.likelihood.chains import GetBatch
from kakusan.likelihood.step_groups import default_law, free_cost
from kakusan.models.diffusion import Diffusion
from kakusan.models.mixture import log_prior, split
from kakusan.noise import Drawn, Noted, randn, stream
from kakusan.progress import progress

CHUNK = 250  # evaluations at a time
MOST_EVALUATIONS = 65_536  # largest number for one example


@dataclass(frozen=True)
class Scores:
    """Bound of each example.

    Attributes:
        nats: Bound on log p(x) in nats, higher is more likely, float64 (n,).
        stderr: Monte Carlo standard error of each, in nats (n,); see `stderr_of`.
        bits_per_dim: Negative bound in bits per dimension, lower is more likely (n,); see `per_observed`.
        bits_per_dim_stderr: Standard error of each rate (n,).
        evaluations: Draws per example.
    """

    nats: Tensor
    stderr: Tensor
    bits_per_dim: Tensor
    bits_per_dim_stderr: Tensor
    evaluations: int

    def __len__(self) -> int:
        return len(self.nats)


@torch.no_grad()
def score_examples(
    model: LatentChain,
    batch: GetBatch,
    num: int,
    num_dims: int,
    evaluations: int = 128,
    error: float | None = None,
    seed: int = 0,
    offset_nats: float = 0.0,
) -> Scores:
    """Estimate the bound of each example from several draws.

    A diffusion model is evaluated at stratified timesteps. All examples share steps and noise, so their ranking is more
    precise than their values. A single evaluation per example would be too noisy for a ranking.

    Args:
        model: The chain.
        batch: The data, as a function from indices to x in model values.
        num: Number of examples.
        num_dims: Number of scalars in one example.
        evaluations: Initial number of draws per example, at least 2.
        error: Wanted standard error in nats; draws are doubled until every example reaches it, up to 65,536.
        seed: Random seed.
        offset_nats: Nats added to each bound, see `likelihood.evaluation.summarize`.

    Raises:
        InputError: If there is no example, fewer than 2 draws, or an error that is not positive.
    """
    check_count(num)
    if isinstance(evaluations, bool) or not isinstance(evaluations, int) or evaluations < 2:
        raise InputError(f"scores need at least 2 evaluations per example for a standard error, got {evaluations}")
    if error is not None and not error > 0:
        raise InputError(f"the wanted standard error must be a positive number of nats, got {error}")
    while True:
        parts = progress(torch.arange(num).split(CHUNK), "measuring the bound")
        draws = torch.cat([draws_of(model, batch(part), evaluations, stream(seed, "scores")) for part in parts])
        mean, stderr = draws.mean(1) + offset_nats, stderr_of(draws)
        if error is None or stderr.max() <= error or evaluations >= MOST_EVALUATIONS:
            break
        evaluations *= 2
    per_bit = num_dims * math.log(2)
    return Scores(mean, stderr, -mean / per_bit, stderr / per_bit, evaluations)


def per_observed(scores: Scores, examples: Tensor) -> Scores:
    """Scores with bits per dimension of the observed values of each row; unchanged if no value is missing.

    Args:
        scores: Scores of the examples, per dimension of all their values.
        examples: Stored examples (n, ...), NaN where a value is missing. A row without values gets NaN.
    """
    if not examples.is_floating_point() or not examples.isnan().any():
        return scores
    observed = (~examples.isnan()).flatten(1).sum(1).double()
    per_bit = torch.where(observed > 0, observed, math.nan) * math.log(2)
    rates = {"bits_per_dim": -scores.nats / per_bit, "bits_per_dim_stderr": scores.stderr / per_bit}
    return dataclasses.replace(scores, **rates)


def stderr_of(draws: Tensor) -> Tensor:
    """Standard error (b,) of the mean of each row of draws (b, n), which are in the order of their strata.

    Half the mean squared difference of neighbors estimates the variance within a stratum, so the variance that
    stratification removes is not counted. For independent draws it estimates their ordinary variance.

    Source: von Neumann, Kent, Bellinson and Hart 1941, https://doi.org/10.1214/aoms/1177731746; Cochran 1977,
    Sampling Techniques, section 5A.12.
    """
    return (draws.diff(dim=1).square().mean(1) / (2 * draws.shape[1])).sqrt()


def by_timesteps(chain: LatentChain) -> bool:
    """True if draws of the bound are costs at timesteps, with equal noise for all rows; False for sums of terms."""
    return isinstance(chain, Diffusion)


def draws_of(
    model: LatentChain, x: Tensor, evaluations: int, generator: torch.Generator, cond: Tensor | None = None
) -> Tensor:
    """Unbiased draws of the bound of each example, float64 (b, evaluations); given cond, on log p(x | cond).

    The draws of a diffusion model are in the order of their timesteps.
    One generator gives the same noise to every example and every condition.
    """
    model.validate(x, cond)
    chain, classes = split(model)
    k = cond if classes is None or cond is not None else classes.of(x)
    if not by_timesteps(chain) or (classes is not None and k is None):
        return _by_terms(model, x, evaluations, generator, k, cond)
    law = default_law(chain)
    free = cost_of_perfect_estimates(chain, x)
    known = -precise(chain.prior_kl(x)).cpu() - free.sum(1)
    if classes is not None and cond is None and k is not None:
        known = known + classes.log_prob(k).cpu()
    t = law.draw(evaluations, generator)
    draws = torch.empty(len(x), evaluations, dtype=torch.float64)
    for part in progress(torch.arange(evaluations).split(max(1, CHUNK // len(x))), "measuring the bound"):
        at, num = t[part].repeat_interleave(len(x)).to(x.device), len(part)
        eps = torch.cat([randn((1, *x.shape[1:]), generator, x.dtype, x.device) for _ in part])
        many, conds = torch.cat([x] * num), None if k is None else torch.cat([k] * num)
        q = chain.marginal(many, at)
        cost = precise(chain.step_cost(many, q.mean + q.std * eps.repeat_interleave(len(x), 0), at, conds))
        left = cost.view(num, len(x)).T.cpu() - free[:, t[part] - 1]
        draws[:, part] = known[:, None] - left / law.prob(t[part])
    return draws[:, t.argsort(stable=True)]


def cost_of_perfect_estimates(chain: Diffusion, x: Tensor) -> Tensor:
    """Cost of each step for a network that returns x itself, in nats, float64 (b, T); at t = 1 with z_1 free of noise.

    This part of the bound is summed over the steps exactly, so that draws estimate only the remainder.
    """
    free = free_cost(chain).repeat(len(x), 1)
    z = chain.marginal(x, 1).mean
    free[:, 0] = precise(chain.cost_of(chain.reverse_of(x, z, 1, torch.zeros_like(x)), x, z, 1)).cpu()
    return free


def _by_terms(
    model: Any, x: Tensor, evaluations: int, generator: torch.Generator, k: Tensor | None, cond: Tensor | None
) -> Tensor:
    """Draws of the bound as a sum of terms, float64 (b, evaluations), summed over an uncertain class."""
    chain, classes = split(model)
    if classes is None or k is not None:
        draws = bounds_in_turn(chain, x, [k] * evaluations, generator).T
        return draws if classes is None or k is None or cond is not None else draws + classes.log_prob(k).cpu()[:, None]
    q = model.responsibilities(x).exp().cpu()
    each = [torch.full((len(x),), one, device=x.device) for one in range(classes.num)]
    bounds = bounds_in_turn(chain, x, each * evaluations, generator).view(evaluations, classes.num, len(x))
    return torch.einsum("ekb,bk->be", bounds, q) + log_prior(q, classes.share.double().cpu())[:, None]


def bounds_in_turn(chain: LatentChain, x: Tensor, conds: Sequence[Tensor | None], generator: torch.Generator) -> Tensor:
    """One-draw bounds of x for each condition in turn, with noise from one generator.

    Several draws form one batch, with the noise that they would have one after another. For this, the first draw counts
    the random numbers that a draw takes. If a chain draws noise without `kakusan.noise`, each draw is a separate batch.

    Returns:
        Nats, float64 (len(conds), b).
    """

    def bounds(x: Tensor, cond: Tensor | None, randomness: torch.Generator) -> Tensor:
        return add(chain.draw_terms(x, cond, randomness).values()).cpu().double()  # x is validated

    noted = Noted.at(generator)
    found = [bounds(x, conds[0], noted)]
    noted.again(generator)
    together = torch.equal(noted.get_state(), generator.get_state())
    generator.set_state(noted.get_state())
    at_once = max(1, CHUNK // len(x)) if together else 1
    for start in progress(range(1, len(conds), at_once), "measuring the bound"):
        part = conds[start : start + at_once]
        if not together:
            found.append(bounds(x, part[0], generator))
            continue
        drawn = Drawn.of([torch.cat(each) for each in zip(*(noted.again(generator) for _ in part))])
        known = [cond for cond in part if cond is not None]
        found.append(bounds(copies(x, len(part)), torch.cat(known) if known else None, drawn))
    return torch.cat(found).view(len(conds), len(x))
