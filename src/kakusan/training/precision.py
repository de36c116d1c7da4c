"""In which precision the networks compute, and whether they are compiled first.

Both are done to the networks that a model calls, not to the loss around them: what a network returns is float32 again,
so that the bound's own arithmetic, the weights, their averages and the optimizer's moments are float32 in any case.
Noise is drawn outside of what is compiled, from the step's own generator: a compiled step sees the numbers that one
which is not compiled sees.
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
    """Networks that a model calls: its direct parts, those in a list one by one."""
    parts = [one for part in module.children() for one in (part if isinstance(part, nn.ModuleList) else (part,))]
    return [part for part in parts if any(True for _ in part.parameters())]


def check_computing(module: nn.Module, settings: Optim, device: torch.device) -> None:
    """InputError if this precision, or compiling, is not to be had for this model on this device."""
    if settings.precision == "tf32" and device.type != "cuda":
        raise InputError(f"optim.precision tf32 is a GPU's, and this run is on {device}; choose float32")
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
                f"optim.compile {settings.compile} is for a GPU, and this run is on {device}; choose default"
            )
        if settings.num_groups > distributed.world_size():
            raise InputError(
                f"optim.compile {settings.compile} replays one group of a batch a process, and there are "
                f"{settings.num_groups} groups for {distributed.world_size()}; choose default, or --optim.groups {distributed.world_size()}"
            )
    if device.type == "cpu" and not any(map(shutil.which, [os.environ.get("CXX") or "c++", *COMPILERS])):
        raise InputError("optim.compile needs a C++ compiler, and there is none on PATH; install g++, or choose none")
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise InputError("optim.compile needs triton on a GPU, and it is not installed; install it, or choose none")


class Computing:
    """The networks of a model, made to compute as the settings say.

    Args:
        module: The model; copies made of it before this are left as they were. Names of weights stay what they are.
        settings: Of which `precision` and `compile` are read.
        device: Where it is.
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
        """Around the gradients of a step: float32 products are rounded to TF32 if that was asked for, and never else."""
        if self._graphs:
            torch.compiler.cudagraph_mark_step_begin()
        return _rounding(self.precision == "tf32") if self.device.type == "cuda" else nullcontext()

    def forward(self) -> AbstractContextManager[Any]:
        """Around a loss."""
        if self.precision != "bfloat16":
            return nullcontext()
        # on a CPU groups may run side by side, and what autocast keeps of rounded weights all threads would share
        return torch.autocast(self.device.type, torch.bfloat16, cache_enabled=self.device.type != "cpu")


def _widened(network: nn.Module, inputs: Any, output: Any) -> Any:
    """The same in float32, if it is bfloat16; other outputs than tensors and tuples are converted by the model."""
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
