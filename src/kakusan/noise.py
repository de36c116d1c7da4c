"""Reproducible noise: one generator per batch, or one per example.

With one generator per example, example i is the same for any batch size and any order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from kakusan.devices import precise_device

Randomness = torch.Generator | Sequence[torch.Generator] | None


class Noted(torch.Generator):
    """Generator that starts at the state of another, and records what `randn` and `rand` draw from it.

    Attributes:
        notes: Distribution, shape and dtype of each draw.
    """

    notes: list[tuple[Callable[..., Tensor], tuple[int, ...], torch.dtype]]

    @classmethod
    def at(cls, generator: torch.Generator) -> Noted:
        """Create a recording generator from the state of a generator, whose state does not change."""
        noted = cls(generator.device)
        noted.set_state(generator.get_state())
        noted.notes = []
        return noted

    def again(self, generator: torch.Generator) -> list[Tensor]:
        """Repeat the recorded draws with a generator, and return the numbers."""
        return [
            law(*shape, generator=generator, dtype=dtype, device=generator.device) for law, shape, dtype in self.notes
        ]


class Drawn(torch.Generator):
    """Generator that returns given numbers: one tensor for each call of `randn` or `rand`, in order."""

    left: Iterator[Tensor]

    @classmethod
    def of(cls, numbers: Iterable[Tensor]) -> Drawn:
        """Create a generator that returns these tensors."""
        drawn = cls()
        drawn.left = iter(numbers)
        return drawn

    def take(self, shape: Sequence[int]) -> Tensor:
        """Return the next tensor; ValueError if it has another shape."""
        numbers = next(self.left)
        if tuple(numbers.shape) != tuple(shape):
            raise ValueError(f"expected drawn numbers of shape {tuple(shape)}, got {tuple(numbers.shape)}")
        return numbers


def stream(*key: int | str, device: str | torch.device = "cpu") -> torch.Generator:
    """Create a generator that is a pure function of its key, e.g. `stream(seed, "batch", step)`.

    The seed is the first eight bytes of the SHA-256 of the key, so streams of different keys are practically
    independent.
    """
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator(precise_device(device)).manual_seed(int.from_bytes(digest[:8], "little", signed=True))


def example_streams(seed: int, indices: range) -> list[torch.Generator]:
    """Create one generator per example, so that sample i does not depend on the other samples."""
    return [stream(seed, "sample", index) for index in indices]


def randn(shape: Sequence[int], randomness: Randomness, dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """Draw independent N(0, 1) numbers on the generator's device and return them on `device`.

    Args:
        shape: (b, *event).
        randomness: None for torch's global generator, one generator, or b of them.
        dtype: Dtype of the result.
        device: Device of the result.
    """
    return _draw(torch.randn, shape, randomness, dtype, device)


def rand(shape: Sequence[int], randomness: Randomness, dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """Draw independent uniform numbers on [0, 1); arguments as in `randn`."""
    return _draw(torch.rand, shape, randomness, dtype, device)


def _draw(law, shape, randomness, dtype, device) -> Tensor:
    if randomness is None:
        return law(*shape, dtype=dtype, device=precise_device(device)).to(device)
    if isinstance(randomness, Drawn):
        return randomness.take(shape).to(device)
    if isinstance(randomness, torch.Generator):
        if isinstance(randomness, Noted):
            randomness.notes.append((law, tuple(shape), dtype))
        return law(*shape, generator=randomness, dtype=dtype, device=randomness.device).to(device)
    if len(randomness) != shape[0]:
        raise ValueError(f"one generator per example: expected {shape[0]} generators, got {len(randomness)}")
    if not randomness:
        return torch.zeros(*shape, dtype=dtype, device=device)
    rows = [law(tuple(shape[1:]), generator=one, dtype=dtype, device=one.device) for one in randomness]
    return torch.stack(rows).to(device)
