"""Other people's diffusion models of 28 x 28 digits, each as good as its own options make it, behind one face.

Their parts do everything that is theirs: network, loss, averaged weights, sampler. Ours are the data, which are held in
memory for them (faster than the folders of pictures that both expect), the optimiser (torch's Adam) and the clock.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn


class Rival(Protocol):
    """A model under training.

    Attributes:
        module: Whose parameters move.
        samplers: Ways to sample by name: first a fast and good one, last the whole chain of 1,000 calls.
    """

    module: nn.Module
    samplers: tuple[str, ...]

    def loss(self, x: Tensor) -> Tensor:
        """Mean over a batch (b, 1, h, w) in [-1, 1]."""
        ...

    def average(self) -> None:
        """Let the averaged weights follow; after each step."""
        ...

    def averaged(self) -> dict[str, Tensor]:
        """The averaged weights."""
        ...

    def take(self, weights: dict[str, Tensor]) -> None:
        """Put averaged weights in, to sample with."""
        ...

    def sample(self, n: int, sampler: str) -> Tensor:
        """(n, 1, h, w) in [-1, 1], about, with the averaged weights."""
        ...


NAMES = ("lucidrains", "diffusers")


def rival(name: str, size: int = 28, network: dict | None = None) -> Rival:
    """A fresh one for pictures of this size, its network as tuned unless other settings are given; its library is imported only now.

    Raises:
        ValueError: If there is none of that name.
    """
    if name == "lucidrains":
        from rivals.lucidrains import Lucidrains

        return Lucidrains(size, network)
    if name == "diffusers":
        from rivals.huggingface import HuggingFace

        return HuggingFace(size, network)
    raise ValueError(f"no rival {name!r}; there are: {', '.join(NAMES)}")
