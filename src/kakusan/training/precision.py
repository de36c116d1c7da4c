"""Precision and compilation of networks.

Both apply only to the networks of a model, not to the loss around them. Network outputs are converted to float32.
The bound, the weights, their averages and the optimizer's moments are always float32. Noise is drawn outside the compiled
graph from the step's own generator, so compilation does not change it.
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
GRAPH_CALLS = 3  # torch runs a graph once normally, and once to record it
COMPILERS = ("c++", "g++", "clang++")


def networks(module: nn.Module) -> list[nn.Module]:
    """Return the networks of a model: its direct submodules, with lists expanded."""
    parts = [one for part in module.children() for one in (part if isinstance(part, nn.ModuleList) else (part,))]
    return [part for part in parts if any(True for _ in part.parameters())]


def check_computing(module: nn.Module, settings: Optim, device: torch.device) -> None:
    """Raise InputError if the precision or the compile mode does not work for this model on this device."""
    if settings.precision == "tf32" and device.type != "cuda":
        raise InputError(f"optim.precision tf32 needs a GPU, and this run is on {device}; choose float32")
    if settings.precision == "bfloat16":
        if not any(p.dtype == torch.float32 for part in networks(module) for p in part.parameters()):
            raise InputError(
                "optim.precision bfloat16 needs a float32 network, and this model has none; choose float32"
            )
        if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
            name = torch.cuda.get_device_name(device)
            raise InputError(f"{name} does not support bfloat16; choose optim.precision float32")
    if settings.compile == "none":
        return
    if not networks(module):
        raise InputError("optim.compile needs a network, and this model has none; choose none")
    if settings.compile in GRAPHS:
        if device.type != "cuda":
            raise InputError(
                f"optim.compile {settings.compile} needs a GPU, and this run is on {device}; choose default"
            )
        if settings.num_groups > distributed.world_size():
            raise InputError(
                f"optim.compile {settings.compile} needs one micro-batch per process, and there are "
                f"{settings.num_groups} for {distributed.world_size()}; choose default, or "
                f"--optim.groups {distributed.world_size()}"
            )
    if device.type == "cpu" and not any(map(shutil.which, [os.environ.get("CXX") or "c++", *COMPILERS])):
        raise InputError("optim.compile needs a C++ compiler, and there is none on PATH; install g++, or choose none")
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise InputError("optim.compile needs triton on a GPU, and it is not installed; install it, or choose none")


class Computing:
    """Apply the precision and compilation of the settings to the networks of a model.

    Args:
        module: The model. Earlier copies and the names of weights do not change.
        settings: Optimizer settings; `precision` and `compile` are read.
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
        """Return a context for the gradients of a step. It rounds float32 products to TF32 only if the setting is tf32."""
        if self._graphs:
            torch.compiler.cudagraph_mark_step_begin()
        return _rounding(self.precision == "tf32") if self.device.type == "cuda" else nullcontext()

    def forward(self) -> AbstractContextManager[Any]:
        """Return a context for a loss: bfloat16 autocast if the setting is bfloat16."""
        if self.precision != "bfloat16":
            return nullcontext()
        # on a CPU micro-batches may run in parallel, and threads would share the weight cache of autocast
        return torch.autocast(self.device.type, torch.bfloat16, cache_enabled=self.device.type != "cpu")


def _widened(network: nn.Module, inputs: Any, output: Any) -> Any:
    """Convert a bfloat16 output to float32. The model itself converts outputs other than tensors and tuples."""
    if isinstance(output, Tensor):
        return output.float() if output.dtype == torch.bfloat16 else output
    return tuple(_widened(network, inputs, one) for one in output) if isinstance(output, tuple) else output


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
