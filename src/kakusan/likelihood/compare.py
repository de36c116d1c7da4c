"""Paired comparison of two models on the same examples."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from kakusan.errors import InputError
from kakusan.likelihood.evaluation import Evaluation, stratified_var, var_of_mean
from kakusan.units import bits_per_dim


@dataclass(frozen=True)
class Comparison:
    """Difference of two models in bits per dimension, first minus second; negative if the first is better."""

    difference: float
    standard_error: float  # standard error of the paired difference
    unpaired_error: float  # standard error if the two had been measured on different examples
    correlation: float  # between the two models' examples
    nats: float  # per example, first minus second
    num_images: int

    def record(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def compare(first: Evaluation, second: Evaluation) -> Comparison:
    """Paired difference of two evaluations of the same examples, at least two, in the same order."""
    if first.num_images != second.num_images or first.num_dims != second.num_dims:
        raise InputError(
            f"a paired comparison needs the same examples, got {first.num_images} of {first.num_dims} values "
            f"and {second.num_images} of {second.num_dims}"
        )
    if first.num_images < 2:
        raise InputError("a paired comparison needs at least two examples")
    both = torch.stack([first.per_example, second.per_example])
    difference = both[0] - both[1]
    strata = first.strata if _alike(first.strata, second.strata) else None
    spread = _spread(difference, strata)
    own = [_spread(result.per_example, result.strata) for result in (first, second)]
    deviations = both.std(1).prod().item()
    return Comparison(
        difference=bits_per_dim(difference.mean().item(), first.num_dims) + 0.0,  # avoid -0
        standard_error=-bits_per_dim(math.sqrt(spread), first.num_dims),
        unpaired_error=-bits_per_dim(math.sqrt(sum(own)), first.num_dims),
        correlation=torch.cov(both)[0, 1].item() / deviations if deviations else 1.0,
        nats=-difference.mean().item(),
        num_images=first.num_images,
    )


def _alike(first: list[Tensor] | None, second: list[Tensor] | None) -> bool:
    return first is not None and second is not None and all(map(torch.equal, first, second))


def _spread(values: Tensor, strata: list[Tensor] | None) -> float:
    found = var_of_mean(values) if strata is None else stratified_var(values, strata)
    assert found is not None, "there are two examples"
    return found
