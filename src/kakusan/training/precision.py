"""Precision and compilation of the networks.

Both apply to the networks that a model calls, not to the loss. The output of a network is converted to float32, so the
bound, the weights, their averages and the optimizer's moments are always float32. Noise is drawn outside of the compiled
networks, so a compiled step uses the same random numbers.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from kakusan import distributed
from kakusan.errors import InputError
from kakusan.training.settings import Optim

GRAPHS = ("reduce-overhead", "max-autotune")  # torch's modes that replay a step's launches as CUDA graphs
GRAPH_CALLS = 3  # torch runs a graph once plainly and once to record it
COMPILERS = ("c++", "g++", "clang++")


def networks(module: nn.Module) -> list[nn.Module]:
    """Networks that a model calls: its children, and each element of a ModuleList."""
    parts = [one for part in module.children() for one in (part if isinstance(part, nn.ModuleList) else (part,))]
    return [part for part in parts if any(True for _ in part.parameters())]


def check_computing(module: nn.Module, settings: Optim, device: torch.device) -> None:
    """InputError if this precision or compilation is not available for this model on this device."""
    if settings.precision == "tf32" and device.type != "cuda":
        raise InputError(f"optim.precision tf32 needs a GPU, and this run is on {device}; choose float32")
    if settings.precision == "bfloat16":
        if not any(p.dtype == torch.float32 for part in networks(module) for p in part.parameters()):
            raise InputError(
                "optim.precision bfloat16 is for float32 networks, and this model has none; choose float32"
            )
        if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
            raise InputError(f"{torch.cuda.get_device_name(device)} has no bfloat16; choose optim.precision float32")
    if settings.compile == "none":
        return
    if not networks(module):
        raise InputError("optim.compile is for networks, and this model has none; choose none")
    if settings.compile in GRAPHS:
        if device.type != "cuda":
            raise InputError(
                f"optim.compile {settings.compile} needs a GPU, and this run is on {device}; choose default"
            )
        if settings.num_groups > distributed.world_size():
            raise InputError(
                f"optim.compile {settings.compile} needs one micro-batch per rank, got {settings.num_groups} for "
                f"{distributed.world_size()}; choose default, or --optim.groups {distributed.world_size()}"
            )
    if device.type == "cpu" and not any(map(shutil.which, [os.environ.get("CXX") or "c++", *COMPILERS])):
        raise InputError("optim.compile needs a C++ compiler, and there is none on PATH; install g++, or choose none")
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise InputError("optim.compile needs triton on a GPU, and it is not installed; install it, or choose none")


class Computing:
    """Sets precision and compilation of the networks of a model.

    Args:
        module: The model; earlier copies of it are not changed, nor are the names of its weights.
        settings: Optimizer settings, of which `precision` and `compile` are read.
        device: Device of the model.
    """

    def __init__(self, module: nn.Module, settings: Optim, device: torch.device):
        check_computing(module, settings, device)
        self.precision, self.device = settings.precision, device
        self.warm_up_calls = {"none": 0, **dict.fromkeys(GRAPHS, GRAPH_CALLS)}.get(settings.compile, 1)
        self._graphs = settings.compile in GRAPHS
        for part in networks(module):
            if self.precision == "bfloat16":
                part.register_forward_hook(_widened)
            if settings.compile != "none":
                part.compile(mode=settings.compile, dynamic=False)

    def step(self) -> AbstractContextManager[None]:
        """Context for the gradients of a step: float32 products are rounded to TF32 only if optim.precision is tf32."""
        if self._graphs:
            torch.compiler.cudagraph_mark_step_begin()
        return _rounding(self.precision == "tf32") if self.device.type == "cuda" else nullcontext()

    def forward(self) -> AbstractContextManager[Any]:
        """Context for a loss."""
        if self.precision != "bfloat16":
            return nullcontext()
        # parallel micro-batches on a CPU would share the cache of rounded weights
        return torch.autocast(self.device.type, torch.bfloat16, cache_enabled=self.device.type != "cpu")


def _widened(network: nn.Module, inputs: Any, output: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    return output.float() if isinstance(output, Tensor) else tuple(one.float() for one in output)


@contextmanager
def _rounding(to_tf32: bool) -> Iterator[None]:
    before = _tf32()
    _set_tf32(to_tf32, to_tf32)
    try:
        yield
    finally:
        _set_tf32(*before)


def _tf32() -> tuple[bool, bool]:
    return bool(torch.backends.cuda.matmul.allow_tf32), bool(torch.backends.cudnn.allow_tf32)


def _set_tf32(products: bool, convolutions: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = products, convolutions
