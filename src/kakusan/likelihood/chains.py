"""Estimates of the bound from the terms of drawn latents: VAE, hierarchical VAE, Dirichlet-multinomial."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kakusan import distributed
from kakusan.chain import LatentChain
from kakusan.checks import check_count
from kakusan.distributions import add
from kakusan.likelihood.evaluation import Estimate, var_of_mean
from kakusan.noise import stream
from kakusan.progress import progress

GetBatch = Callable[[Tensor], Tensor]  # indices -> x in model values
Terms = Callable[..., dict[str, Tensor]]  # (x, generator), or (x, generator, cond) -> nats of each term, each (b,)
CHUNK = 500  # examples evaluated at a time


@torch.no_grad()
def of_terms(
    terms: Terms,
    batch: GetBatch,
    num: int,
    draws: int,
    evaluations: int,
    words: str,
    seed: int = 0,
    size: int = CHUNK,
    cond: Tensor | None = None,
) -> Estimate:
    """Estimate the bound from terms whose sum is an unbiased estimate, averaged over a few draws per example.

    With at least two draws, their variance for one example separates Monte Carlo error from the differences between
    examples. With one draw, the Monte Carlo error is unknown.

    Args:
        terms: (x, generator) -> nats of each term for each example; with cond (x, generator, cond).
        batch: The data, as a function from indices to x in model values.
        num: Number of examples.
        draws: Draws per example, at least 1.
        evaluations: Network evaluations of `terms` per example.
        words: The method, in words.
        seed: Random seed.
        size: Number of examples evaluated at a time.
        cond: Condition of each example.

    Raises:
        InputError: If `num` or `draws` is 0.
    """
    check_count(num)
    check_count(draws, "draw")
    done: dict[int, dict[str, Tensor]] = {}  # terms of shape (draws, b)
    for number, indices in enumerate(progress(torch.arange(num).split(size), "measuring the bound")):
        if distributed.owned_by_rank(number):
            x = batch(indices)
            known = () if cond is None else (cond[indices].to(x.device),)
            drawn = [terms(x, stream(seed, "evaluate", int(indices[0]), k), *known) for k in range(draws)]
            done[number] = {name: torch.stack([one[name] for one in drawn]).cpu().double() for name in drawn[0]}
    parts = distributed.all_gather(done)
    joined = {name: torch.cat([part[name] for part in parts], dim=1) for name in parts[0]}
    total = add(joined.values())
    return Estimate(
        terms={name: values.mean(0) for name, values in joined.items()},
        vars={name: var_of_mean(values.mean(0)) for name, values in joined.items()},
        var=var_of_mean(total.mean(0)),
        var_monte_carlo=total.var(0).mean().item() / (draws * num) if draws > 1 else None,
        evaluations=evaluations * draws * num,
        words=words,
    )


@torch.no_grad()
def in_closed_form(chain: LatentChain, x: Tensor) -> Estimate:
    """Bound of a chain whose terms are exact, so that their sum is the log-likelihood."""
    terms = {name: value.cpu().double() for name, value in chain.terms(x).items()}
    variances = {name: var_of_mean(value) for name, value in terms.items()}
    words = "in closed form; the bound is the log-likelihood itself"
    return Estimate(terms, variances, var_of_mean(add(terms.values())), 0.0, 0, words)
