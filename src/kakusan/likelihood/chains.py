"""Of chains whose bound comes as terms of one drawn path: VAE, hierarchical VAE, Dirichlet-multinomial."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kakusan import distributed
from kakusan.checks import check_count
from kakusan.distributions import add
from kakusan.likelihood.evaluation import Estimate, mean_spread
from kakusan.noise import Randomness, stream

GetBatch = Callable[[Tensor], Tensor]  # indices -> x in the model's scale
Terms = Callable[[Tensor, Randomness], dict[str, Tensor]]  # x -> nats of each term for each example
CHUNK = 500  # examples at a time


@torch.no_grad()
def of_terms(
    terms: Terms, batch: GetBatch, num: int, draws: int, calls: int, words: str, seed: int = 0, size: int = CHUNK
) -> Estimate:
    """Terms whose sum is an unbiased estimate of the bound, averaged over a few draws for each example.

    With two draws or more the error of the draws is told from that of the examples by how far the draws of one
    example lie apart; with one there is nothing to tell it by, and it is not stated.

    Args:
        terms: (x, generator) -> nats of each term for each example.
        batch: The data.
        num: How many examples there are.
        draws: Of each example, at least 1.
        calls: Network calls that `terms` makes for one example.
        words: What it does, for people.
        seed: Of the draws.
        size: Examples at a time.

    Raises:
        InputError: If there is no example, or no draw.
    """
    check_count(num)
    check_count(draws, "draw")
    done: dict[int, dict[str, Tensor]] = {}  # of (draws, b)
    for number, indices in enumerate(torch.arange(num).split(size)):
        if distributed.owned_by_rank(number):
            x = batch(indices)
            drawn = [terms(x, stream(seed, "evaluate", int(indices[0]), k)) for k in range(draws)]
            done[number] = {name: torch.stack([one[name] for one in drawn]).double().cpu() for name in drawn[0]}
    parts = distributed.all_gather(done)
    joined = {name: torch.cat([part[name] for part in parts], dim=1) for name in parts[0]}
    total = add(joined.values())
    return Estimate(
        terms={name: values.mean(0) for name, values in joined.items()},
        spreads={name: mean_spread(values.mean(0)) for name, values in joined.items()},
        spread=mean_spread(total.mean(0)),
        spread_monte_carlo=total.var(0).mean().item() / (draws * num) if draws > 1 else None,
        calls=calls * draws * num,
        words=words,
    )
