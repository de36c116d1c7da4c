"""A paired comparison that stops early: blocks of examples in random order, with an interim look after each block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kakusan.likelihood.evaluation import Estimate, Evaluation, summarize, var_of_mean
from kakusan.likelihood.sequential import CONFIDENCE, FIRST_LOOK, confidence_radius
from kakusan.noise import stream
from kakusan.progress import progress
from kakusan.timesteps import StepLaw
from kakusan.units import bits_per_dim

BLOCK = FIRST_LOOK  # examples between looks


@dataclass(frozen=True)
class Stopped:
    """State of a sequential comparison when it stopped: its decision and the interval of the difference.

    Attributes:
        decided: Whether the interval, from at least 250 examples, excludes a difference of 0.
        low: Lower end of the interval of the difference, bits/dim, first minus second.
        high: Upper end.
        confidence: Probability that the intervals of all looks contain the true difference.
        num_looks: Number of looks.
        num_examples: Number of available examples.
    """

    decided: bool
    low: float
    high: float
    confidence: float
    num_looks: int
    num_examples: int

    def words(self, paths: Sequence[str]) -> str:
        """Return the decision as text."""
        interval = f"{self.confidence:.0%} interval at every look, now {self.low:+.4f} to {self.high:+.4f} bits/dim"
        looks = f"{self.num_looks} look{'s' * (self.num_looks != 1)}"
        if self.decided:
            return f"decided after {looks}: {paths[self.low > 0]} needs fewer bits ({interval})"
        return f"not decided after {looks} at all {self.num_examples:,} examples; only more examples help ({interval})"


def measure_until_decided(
    models: Sequence[Any],
    examples: Tensor,
    seed: int,
    law: StepLaw | None,
    labels: Sequence[Tensor | None] = (None, None),
) -> tuple[tuple[Evaluation, Evaluation], Stopped]:
    """Measure two models on blocks of examples in random order until the difference is decided, or all are used.

    The differences of single examples are treated as independent. Stratified timesteps make their mean more precise,
    so the interval is conservative.

    Args:
        models: Two trained models for the same kind of data.
        examples: Stored examples, in any order.
        seed: Random seed of the order and of the noise.
        law: Timestep distribution of both, see `TrainedModel.evaluate`.
        labels: Label of each example for either model, see `TrainedModel.evaluate`.

    Returns:
        Both evaluations on the examples that were used, and the decision.
    """
    order = torch.randperm(len(examples), generator=stream(seed, "looks"))
    blocks: list[tuple[Evaluation, ...]] = []
    low, high, decided = 0.0, 0.0, False
    for rows in progress(order.split(BLOCK), "measuring both"):
        blocks.append(
            tuple(
                model.evaluate(examples[rows], seed + len(blocks), law=law, labels=None if k is None else k[rows])
                for model, k in zip(models, labels)
            )
        )
        low, high = _interval(blocks)
        decided = len(blocks[0][0].per_example) == FIRST_LOOK and (low > 0 or high < 0)
        if decided:
            break
    first, second = (pooled([block[k] for block in blocks]) for k in range(2))
    return (first, second), Stopped(decided, low, high, CONFIDENCE, len(blocks), len(examples))


def _interval(blocks: list[tuple[Evaluation, ...]]) -> tuple[float, float]:
    """Return the ends of the interval of the difference in bits/dim, first minus second."""
    nats = torch.cat([first.per_example - second.per_example for first, second in blocks])
    center = bits_per_dim(nats.mean().item(), blocks[0][0].num_dims)
    width = -bits_per_dim(confidence_radius(nats.std(), len(nats)).item(), blocks[0][0].num_dims)
    return center - width, center + width


def pooled(parts: Sequence[Evaluation]) -> Evaluation:
    """Combine the evaluations of all parts into one, without its terms."""
    nats = torch.cat([part.per_example for part in parts])
    var = var_of_mean(nats)
    evaluations = sum(part.network_evaluations for part in parts)
    return summarize(
        Estimate({"bound": nats}, {"bound": var}, var, None, evaluations, parts[0].estimator), parts[0].num_dims
    )
