"""Free memory, memory of a training step, and advice when it runs out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from kakusan.errors import InputError
from kakusan.noise import stream
from kakusan.run.recipe import Recipe
from kakusan.training.loop import Trainer, buffers_kept

PROBED = 4  # number of examples in the batch whose stored activations are counted
COPIES = 5  # copies of the weights: weights, averages, gradients and two optimizer moments
WORDS = ("out of memory", "can't allocate memory", "not enough memory", "DefaultCPUAllocator")


def available_bytes(device: torch.device | None = None) -> int | None:
    """Return the free memory of a device or of the system in bytes; None if unknown."""
    if device is not None and device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, AttributeError, ValueError):
        return None


def step_bytes(trainer: Trainer) -> int:
    """Estimate from below the bytes of a training step: weights, optimizer, and activations kept for the gradient."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    examples = min(PROBED, trainer.settings.batch)
    indices = torch.arange(examples, device=trainer.device) % trainer.num_examples
    with buffers_kept(trainer.module), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        trainer.loss(indices, stream(trainer.seed, "memory", device=trainer.device)).mean()
    weights = sum(p.numel() * p.element_size() for p in trainer.module.parameters())
    own = {p.untyped_storage().data_ptr() for p in trainer.module.parameters()}
    activations = sum(size for pointer, size in kept.items() if pointer not in own)
    return COPIES * weights + activations * trainer.settings.batch // examples


def memory_words(needed: int, free: int, recipe: Recipe) -> str:
    """Describe needed and free memory, and the sizes to lower."""
    return f"{needed / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} GiB are free; {_sizes(recipe)}"


@contextmanager
def memory_errors(recipe: Recipe) -> Iterator[None]:
    """Turn a failed allocation into an InputError that names the sizes to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and not any(word in str(error) for word in WORDS):
            raise
        raise InputError(f"out of memory; {_sizes(recipe)}") from error


def _sizes(recipe: Recipe) -> str:
    return f"lower --optim.batch (now {recipe.optim.batch}), the size of the images, or the widths of the model"
