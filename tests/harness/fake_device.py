"""A device without float64, simulated on the CPU: tensors that say they are elsewhere, as on an Apple GPU.

Every operation runs on CPU tensors inside. What an Apple GPU refuses is refused: float64, operations of tensors on two
devices, and a CPU generator that draws on the device. Kernels of Metal are not simulated, nor their rounding.
"""

from __future__ import annotations

import importlib
from contextlib import contextmanager

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_map_only

DEVICE = torch.device("lazy", 0)  # a type whose autograd needs no driver


class OnDevice(torch.Tensor):
    """A tensor that says it is on the device, around one on the CPU."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype, device=DEVICE
        )  # fmt: skip

    def __init__(self, inner):
        self.inner = inner

    def __repr__(self, *, tensor_contents=None):
        return f"OnDevice({self.inner})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):  # pyrefly: ignore
        return compute(func, args, kwargs or {})


def is_device(value) -> bool:
    return isinstance(value, torch.device) and value.type == DEVICE.type


def refuse_float64(value):
    if isinstance(value, torch.Tensor) and value.dtype in (torch.float64, torch.complex128):
        raise AssertionError("the device has no float64")


def compute(func, args, kwargs):
    """Run an operation on the inner tensors; its results are on the device if its inputs or its `device` are."""
    flat = tree_flatten((args, kwargs))[0]
    tensors = [value for value in flat if isinstance(value, torch.Tensor)]
    mine = [value for value in tensors if isinstance(value, OnDevice)]
    target = next((value for value in flat if isinstance(value, torch.device)), None)
    copies = func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
    indexes = func.__name__.startswith(("index.Tensor", "index_put", "_index_put_impl", "_unsafe_index"))
    others = [value for value in tensors if not isinstance(value, OnDevice) and value.dim() > 0]
    if mine and others and not copies and not (indexes and all(not v.is_floating_point() for v in others)):
        raise RuntimeError(f"{func}: expected all tensors to be on the same device, found cpu and {DEVICE}")
    if is_device(target) and func.__name__.startswith("rand"):  # seeds would give other numbers than on a CPU
        raise AssertionError("random numbers are drawn on the device")
    if is_device(target) and any(isinstance(value, torch.Generator) for value in flat):
        raise RuntimeError("Expected a device type of the tensors for generator but found 'cpu'")
    to_device = is_device(target) if target is not None else bool(mine)
    if func is torch.ops.aten.copy_.default:
        to_device = isinstance(args[0], OnDevice)
    inner_args, inner_kwargs = tree_map_only(OnDevice, lambda value: value.inner, (args, kwargs))
    inner_args, inner_kwargs = tree_map(
        lambda v: torch.device("cpu") if is_device(v) else v, (inner_args, inner_kwargs)
    )
    if copies:
        inner_kwargs.pop("non_blocking", None)
    out = func(*inner_args, **inner_kwargs)
    if not to_device or out is None:  # None: operations in place on lists
        return out
    if "_." in func.__name__ or func.__name__.split(".")[0].endswith("_"):  # in place: the same tensor comes back
        for value in mine:
            refuse_float64(value)
        return args[0]
    tree_map(refuse_float64, out)
    return tree_map_only(torch.Tensor, lambda value: value if isinstance(value, OnDevice) else OnDevice(value), out)


class Factories(TorchDispatchMode):
    """Catches what creates tensors on the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        flat = tree_flatten((args, kwargs))[0]
        if any(is_device(value) or isinstance(value, OnDevice) for value in flat):
            return compute(func, args, kwargs)
        return func(*args, **kwargs)


def on_cpu_first(make):
    """A factory that moves what it has made on the CPU."""

    def made(data, dtype=None, device=None, **options):
        if device is None or torch.device(device).type != DEVICE.type:
            return make(data, dtype=dtype, device=device, **options)
        inner = data if isinstance(data, torch.Tensor) else make(data, dtype=dtype, **options)
        return inner.to(device) if dtype is None else inner.to(device, dtype)

    return made


@contextmanager
def device_without_float64(monkeypatch: pytest.MonkeyPatch):
    """Let the library know that the device has no float64, and catch what creates tensors there."""
    for name in ("tensor", "as_tensor"):  # torch fills these on the device by itself
        monkeypatch.setattr(torch, name, on_cpu_first(getattr(torch, name)))
    optimizer = importlib.import_module("torch.optim.optimizer")
    fused = [*optimizer._get_fused_kernels_supported_devices(), DEVICE.type]
    monkeypatch.setattr(optimizer, "_get_fused_kernels_supported_devices", lambda: list(fused))
    monkeypatch.setattr("kakusan.devices.WITHOUT_FLOAT64", {DEVICE.type})
    with Factories():
        yield DEVICE
