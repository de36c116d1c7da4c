"""Checks of input data; an error states on one line what was expected, what was found and where.

Shapes and dtypes are known to the host and checked everywhere. Checking values waits for the device, so public
functions do it and training steps do not.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kakusan.errors import InputError, shown

# Tolerance as a share of a level: float32 rounds to a thousandth of a level, and a wrong scale exceeds the tolerance.
GRID_SLACK = 0.01


def numbers(values: Any, name: str, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor of real numbers from a tensor, an array or a list; InputError for anything else, e.g. None or bool.

    Args:
        values: The numbers.
        name: Their name in an error.
        dtype: Dtype of the result (default: that of the values, and torch's default for a list).
    """
    try:
        tensor = values if isinstance(values, Tensor) else torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        found = " ".join(str(error).split())
        raise InputError(
            f"{name} must be a tensor or a list of numbers, got {type(values).__name__} ({found})"
        ) from error
    if tensor.dtype == torch.bool or tensor.is_complex():
        raise InputError(f"{name} must be real numbers, got {tensor.dtype}; pass {name}.double()")
    if dtype is None:
        return tensor
    return tensor.to(dtype) if isinstance(values, Tensor) else torch.as_tensor(values, dtype=dtype)  # rounds only once


def array_tensor(examples: Any) -> Tensor:
    """A tensor of examples from a tensor, an array or a list; InputError for anything else, e.g. a path."""
    if isinstance(examples, Tensor):
        return examples
    try:
        return torch.from_numpy(np.ascontiguousarray(examples))
    except (TypeError, ValueError) as error:
        path = isinstance(examples, str | os.PathLike)
        name = shown(os.fspath(examples)) if path else "path"
        found = f"the path {name}" if path else type(examples).__name__
        raise InputError(
            f"examples must be a tensor or an array of numbers, got {found}; kakusan.data.open_data({name}).test has that form"
        ) from error


def shape_advice(name: str, shape: Sequence[int], wanted: tuple[int, ...], otherwise: str = "reshape it") -> str:
    """The usual way from an array of this shape to a batch of events of the wanted shape."""
    found = tuple(shape)
    if found == wanted:
        return f"{name}[None] is a batch of one"
    if wanted[:1] == (1,) and found[1:] == wanted[1:]:
        return f"{name}[:, None] has one channel"
    return f"use {name}.permute(0, 3, 1, 2)" if found[1:] == (*wanted[1:], wanted[0]) != wanted else otherwise


def check_event(x: Tensor, event_shape: Sequence[int] | None = None, name: str = "x") -> None:
    """Raise InputError unless x is a batch of floating-point examples (b, *event); the event shape may be None."""
    if not isinstance(x, Tensor):
        raise InputError(f"{name} must be a tensor, got {type(x).__name__}; convert it with torch.as_tensor({name})")
    if not x.is_floating_point():
        raise InputError(
            f"{name} must be floating-point on the model's scale, got {x.dtype}; 8-bit pixels u become "
            "u / 127.5 - 1 for a diffusion model or a discretized likelihood, u / 255 for a gaussian one"
        )
    if x.dtype in (torch.float16, torch.bfloat16):
        raise InputError(
            f"{name} must be float32 or float64, since a bound loses whole nats in {x.dtype}; pass {name}.float()"
        )
    wanted = None if event_shape is None else tuple(event_shape)
    if x.dim() < 2 if wanted is None else x.shape[1:] != wanted or x.dim() == 0:
        expected = "(b, *event)" if wanted is None else f"(b, {', '.join(map(str, wanted))})"
        advice = f"{name}[None] is a batch of one" if wanted is None else shape_advice(name, x.shape, wanted)
        raise InputError(f"{name} must have shape {expected}, one row per example, got {tuple(x.shape)}; {advice}")


def check_cond(cond: Tensor | None, num: int) -> None:
    """Raise InputError unless cond is None, int64 class indices (b,), or float features (b, ...) for b = num examples."""
    if cond is None:
        return
    if not isinstance(cond, Tensor):
        raise InputError(f"cond must be a tensor, got {type(cond).__name__}; pass torch.as_tensor(cond)")
    right = cond.is_floating_point() or (cond.dtype == torch.int64 and cond.dim() == 1)
    if not right or cond.dim() < 1 or len(cond) != num:
        raise InputError(
            f"cond must be int64 class indices of shape ({num},) or float features ({num}, ...), one row per example; "
            f"got {cond.dtype} {tuple(cond.shape)}"
        )


def check_steps(t: Tensor | int, z: Tensor, event_shape: Sequence[int], depth: int, lowest: int = 1) -> None:
    """Raise InputError unless z has the model's shape and t lies in lowest..T. The values of t on a GPU are not checked."""
    check_event(z, event_shape, "z")
    if isinstance(t, int):
        right, found = lowest <= t <= depth, str(t)
    elif t.dtype != torch.int64 or t.shape not in ((), (1,), z.shape[:1]):
        raise InputError(
            f"t must be a step, or int64 of shape ({len(z)},), one per example; got {t.dtype} {tuple(t.shape)}"
        )
    elif t.device.type != "cpu" or not t.numel():
        return
    else:
        least, most = (int(end) for end in t.aminmax())
        right, found = lowest <= least <= most <= depth, str(least if least < lowest else most)
    if not right:
        raise InputError(f"steps t must lie in {lowest}..{depth}, got {found}")


def check_together(x: Tensor, z: Tensor, event_shape: Sequence[int], names: tuple[str, str] = ("x", "z_t")) -> None:
    """Raise InputError unless x and z are batches of the model's shape and of equal length, or one is a batch of one."""
    for value, name in zip((x, z), names):
        check_event(value, event_shape, name)
    if len(x) != len(z) and 1 not in (len(x), len(z)):
        raise InputError(f"{names[0]} and {names[1]} must have the same number of rows, got {len(x)} and {len(z)}")


def check_same_event(value: Tensor, mean: Tensor) -> None:
    """Raise InputError unless mean and value have the same event shape, because broadcasting would hide the mistake."""
    if value.shape[1:] != mean.shape[1:]:
        raise InputError(
            f"a batch of events of shape {tuple(value.shape[1:])} does not fit a distribution over events of shape "
            f"{tuple(mean.shape[1:])}; check the output shape of the network; x[None] is a batch of one"
        )


def check_values(x: Tensor, right: Tensor, expected: str, advice: str) -> None:
    """Raise InputError naming the first value of x where `right`, a mask of the same shape, is false."""
    if not right.all():
        wrong = ~right
        index = wrong.nonzero()[0].tolist()
        found = x[tuple(index)].item()
        raise InputError(
            f"{expected}, found {found:.7g} at {index}, one of {int(wrong.sum()):,} such values of {x.numel():,}; {advice}"
        )


def check_finite(x: Tensor) -> None:
    """Raise InputError for NaN and infinity."""
    check_values(x, x.isfinite(), "values must be finite", "repair or leave out such examples")


def check_grid(x: Tensor, levels: int) -> None:
    """Raise InputError unless each value is one of `levels` equally spaced ones from -1 to 1."""
    place = (x + 1) * ((levels - 1) / 2)
    right = ((place - place.round()).abs() < GRID_SLACK) & (x.abs() < 1 + GRID_SLACK / levels)
    check_values(
        x, right, f"values must lie on the {levels}-level grid of [-1, 1]", "scale 8-bit pixels u by u / 127.5 - 1"
    )


def check_bits(x: Tensor) -> None:
    """Raise InputError unless each value is 0 or 1."""
    advice = "draw bits from gray levels with (torch.rand_like(x) < x).to(x), or choose a gaussian likelihood"
    check_values(x, (x == 0) | (x == 1), "values must be 0 or 1", advice)


def check_range(x: Tensor, low: float, high: float) -> None:
    """Raise InputError unless each value lies in [low, high]."""
    slack = 4 * torch.finfo(x.dtype).eps * max(abs(low), abs(high))
    right = (x >= low - slack) & (x <= high + slack)
    advice = "scale the data to it, or build the model with another clip"
    check_values(x, right, f"values must lie in the model's range [{low:g}, {high:g}]", advice)


def check_count(num: int, of: str = "example") -> None:
    """Raise InputError unless there is at least one item."""
    if num < 1:
        raise InputError(f"there is nothing to evaluate: expected at least one {of}, got {num}")
