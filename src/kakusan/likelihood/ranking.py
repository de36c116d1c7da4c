"""Least likely examples of a data set, with more evaluations where the ranking is still uncertain."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kakusan.chain import LatentChain
from kakusan.console import counted
from kakusan.errors import InputError
from kakusan.likelihood.chains import GetBatch
from kakusan.likelihood.scores import Scores, score_examples
from kakusan.progress import stages

MOST_DOUBLINGS = 4  # largest number of doublings of an example's draws
OVERLAP = 2.0  # half width of an example's interval in standard errors


@dataclass(frozen=True)
class Ranking:
    """Scores of all examples, and the least likely of them.

    Attributes:
        scores: Bound of each example; `evaluations` is the largest number of draws of one example.
        draws: Number of draws of each example, int64 (n,).
        rows: Indices of the least likely examples, the least likely first, int64 (top,).
        num_open: Number of examples whose interval still contains the boundary between `rows` and the others.
    """

    scores: Scores
    draws: Tensor
    rows: Tensor
    num_open: int


def rank_examples(
    model: LatentChain,
    batch: GetBatch,
    num: int,
    num_dims: int,
    top: int,
    evaluations: int = 128,
    error: float | None = None,
    seed: int = 0,
    offset_nats: float = 0.0,
) -> Ranking:
    """Find the `top` least likely examples by successive doubling.

    First all examples are scored. An example is undecided if the boundary between the least likely and the others is
    within two standard errors of its score. The draws of undecided examples are doubled until there are none, at most
    four times. A doubled example is scored by its new draws alone.

    Args:
        model: The chain.
        batch: The data, as a function from indices to x in model values.
        num: Number of examples.
        num_dims: Number of scalars in one example.
        top: Number of examples to find, at least 1.
        evaluations: Initial number of draws per example, at least 2.
        error: Wanted standard error, see `score_examples`.
        seed: Random seed.
        offset_nats: Nats added to each bound.
    """
    if top < 1:
        raise InputError(f"the number of strangest examples must be at least 1, got {top}")
    found = score_examples(model, batch, num, num_dims, evaluations, error, seed, offset_nats)
    begin, columns = found.evaluations, (found.nats, found.stderr, found.bits_per_dim, found.bits_per_dim_stderr)
    draws = torch.full((num,), begin)
    while True:
        near = _near_boundary(found.nats, found.stderr, top)
        left = near[draws[near] < begin * 2**MOST_DOUBLINGS]
        if not len(left):
            break
        fewest = int(draws[left].min())
        rows = left[draws[left] == fewest]
        with stages(f"measuring {counted(len(rows), 'close example')} again", 1):
            again = score_examples(
                model,
                lambda part, rows=rows: batch(rows[part]),
                len(rows),
                num_dims,
                2 * fewest,
                None,
                seed,
                offset_nats,
            )
        for column, new in zip(columns, (again.nats, again.stderr, again.bits_per_dim, again.bits_per_dim_stderr)):
            column[rows] = new
        draws[rows] = again.evaluations
    scores = Scores(*columns, int(draws.max()))
    return Ranking(scores, draws, found.nats.argsort(stable=True)[:top], len(near))


def _near_boundary(nats: Tensor, stderr: Tensor, top: int) -> Tensor:
    """Indices of examples whose interval contains the midpoint between the `top` least likely and the others."""
    if top >= len(nats):
        return torch.zeros(0, dtype=torch.int64)
    lowest = nats.sort().values
    boundary = (lowest[top - 1] + lowest[top]) / 2
    return ((nats - boundary).abs() < OVERLAP * stderr).nonzero()[:, 0]
