"""How often networks are asked: counted where it happens, so that no second call of a step or of guidance is forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn

from kakusan.models.diffusion import Denoiser


@dataclass
class Calls:
    """One call is one network asked about one example."""

    total: int = 0


@contextmanager
def counted(*networks: Denoiser) -> Iterator[Calls]:
    """Counts the calls of these networks while the block runs; the first argument of each holds one row an example."""
    calls = Calls()

    def count(network: nn.Module, arguments: tuple) -> None:
        calls.total += len(arguments[0])

    hooks = []
    for network in networks:
        assert isinstance(network, nn.Module), "only a module can be listened to"
        hooks.append(network.register_forward_pre_hook(count))
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()
