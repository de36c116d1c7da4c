"""Counter of network evaluations (NFE), including those of guidance and Heun steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn


@dataclass
class Evaluations:
    """Number of network evaluations; one network on one example counts as 1."""

    total: int = 0


@contextmanager
def counted(*networks: nn.Module) -> Iterator[Evaluations]:
    """Count the evaluations of these networks inside a `with` block; their first argument is a batch."""
    evaluations = Evaluations()

    def count(network: nn.Module, arguments: tuple) -> None:
        evaluations.total += len(arguments[0])

    hooks = [network.register_forward_pre_hook(count) for network in networks]
    try:
        yield evaluations
    finally:
        for hook in hooks:
            hook.remove()
