"""Other libraries' diffusion models of small images with their best options, behind one protocol.

Network, loss, averaged weights and sampler are theirs. Ours are the data in memory, which is faster than the folders of
images that both expect, the optimizer (torch's Adam) and the clock.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn


class Rival(Protocol):
    """Model under training.

    Attributes:
        module: Module that is trained.
        samplers: Names of samplers: first a fast and good one, last the whole chain of 1,000 evaluations.
    """

    module: nn.Module
    samplers: tuple[str, ...]

    def loss(self, x: Tensor) -> Tensor:
        """Mean loss over a batch (b, C, h, w) in [-1, 1]."""
        ...

    def average(self) -> None:
        """Update the averaged weights, after each step."""
        ...

    def averaged(self) -> dict[str, Tensor]:
        """The averaged weights."""
        ...

    def take(self, weights: dict[str, Tensor]) -> None:
        """Load averaged weights, to sample with."""
        ...

    def sample(self, n: int, sampler: str) -> Tensor:
        """Samples (n, C, h, w), about in [-1, 1], with the averaged weights."""
        ...


NAMES = ("lucidrains", "diffusers")


def rival(name: str, size: int = 28, network: dict | None = None, channels: int = 1) -> Rival:
    """Build a rival for square images of this size, importing its library now. Default network settings: the tuned ones.

    Raises:
        ValueError: If there is none of that name.
    """
    if name == "lucidrains":
        from rivals.lucidrains import Lucidrains

        return Lucidrains(size, network, channels=channels)
    if name == "diffusers":
        from rivals.huggingface import HuggingFace

        return HuggingFace(size, network, channels=channels)
    raise ValueError(f"no rival {name!r}; there are: {', '.join(NAMES)}")
