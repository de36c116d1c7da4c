"""Estimates of the bound from terms of drawn paths: VAE, hierarchical VAE, Dirichlet-multinomial."""

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

GetBatch = Callable[[Tensor], Tensor]  # indices -> x in the model's numbers
Terms = Callable[..., dict[str, Tensor]]  # (x, generator), or (x, generator, cond) -> nats of each term, each (b,)
CHUNK = 500  # examples at a time


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
    """Terms whose sum is an unbiased estimate of the bound, averaged over a few draws for each example.

    With two draws or more, the variance over the draws of an example separates Monte Carlo error from the differences
    between examples. With one draw it is unknown.

    Args:
        terms: (x, generator) -> nats of each term for each example; with cond (x, generator, cond).
        batch: The data.
        num: Number of examples.
        draws: Draws per example, at least 1.
        evaluations: Network evaluations of `terms` per example.
        words: The method, for people.
        seed: Random seed.
        size: Examples at a time.
        cond: Condition of each example.

    Raises:
        InputError: If there is no example, or no draw.
    """
    check_count(num)
    check_count(draws, "draw")
    done: dict[int, dict[str, Tensor]] = {}  # of (draws, b)
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
    """The bound of a chain whose terms are exact and equal to the log-likelihood."""
    terms = {name: value.cpu().double() for name, value in chain.terms(x).items()}
    variances = {name: var_of_mean(value) for name, value in terms.items()}
    words = "in closed form; the bound is the log-likelihood itself"
    return Estimate(terms, variances, var_of_mean(add(terms.values())), 0.0, 0, words)
