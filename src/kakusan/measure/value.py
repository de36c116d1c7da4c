"""What a measure of samples says: a number and how far it may be off."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Value:
    """A measured number.

    Attributes:
        value: In the measure's own unit.
        standard_error: Of `value`, over other draws of the same size; None where it was not measured.
        p_value: Chance of a value this far off, were the two laws equal; None where that is not tested.
    """

    value: float
    standard_error: float | None = None
    p_value: float | None = None

    def record(self) -> dict[str, Any]:
        """As plain JSON values, without what was not measured."""
        return {name: number for name, number in vars(self).items() if number is not None}


def share(hits: Tensor) -> Value:
    """Share of true ones among independent trials (N,), with its binomial standard error."""
    part = hits.double().mean().item()
    return Value(part, sqrt(part * (1 - part) / len(hits)))
