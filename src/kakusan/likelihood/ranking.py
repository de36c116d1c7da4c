"""The least likely examples of a data set, with more evaluations where the ranking is still open."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kakusan.chain import LatentChain
from kakusan.errors import InputError
from kakusan.likelihood.chains import GetBatch
from kakusan.likelihood.scores import Scores, score_examples

MOST_DOUBLINGS = 4  # of the draws of an example
OVERLAP = 2.0  # standard errors


@dataclass(frozen=True)
class Ranking:
    """Scores of all examples, and the strangest of them.

    Attributes:
        scores: The bound of each example; `evaluations` is the largest number of draws of one example.
        draws: Draws of each example, int64 (n,).
        rows: The strangest examples, the least likely first, int64 (top,).
        num_open: Number of examples whose interval still contains the boundary of the strangest.
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

    All examples are scored. Then the draws of those are doubled whose interval of two standard errors contains the
    boundary between the strangest and the others. It ends when there is none, or after four doublings of an example. A
    doubled example is scored by its new draws alone.

    Args:
        model: The chain.
        batch: The data: indices -> x in the model's numbers.
        num: Number of examples.
        num_dims: Number of scalars in one example.
        top: Number of examples to find, at least 1; at most all are found.
        evaluations: Draws per example to begin with, at least 2.
        error: See `score_examples`.
        seed: Random seed.
        offset_nats: Added to each bound.
    """
    if top < 1:
        raise InputError(f"the number of strangest examples must be at least 1, got {top}")
    top = min(top, num)
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
        again = score_examples(
            model, lambda part, rows=rows: batch(rows[part]), len(rows), num_dims, 2 * fewest, None, seed, offset_nats
        )
        for column, new in zip(columns, (again.nats, again.stderr, again.bits_per_dim, again.bits_per_dim_stderr)):
            column[rows] = new
        draws[rows] = again.evaluations
    scores = Scores(*columns, int(draws.max()))
    return Ranking(scores, draws, found.nats.argsort(stable=True)[:top], len(near))


def _near_boundary(nats: Tensor, stderr: Tensor, top: int) -> Tensor:
    """Examples whose interval contains the middle between the last of the strangest and the first of the others."""
    if top >= len(nats):
        return torch.zeros(0, dtype=torch.int64)
    lowest = nats.sort().values
    boundary = (lowest[top - 1] + lowest[top]) / 2
    return ((nats - boundary).abs() < OVERLAP * stderr).nonzero()[:, 0]
