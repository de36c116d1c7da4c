"""Conversion of arguments to float64 tensors of the expected shape, with errors that name the expected form."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kakusan.errors import InputError, shown

F64 = torch.float64
Numbers = Tensor | Sequence | float


def numbers(name: str, value: Numbers) -> Tensor:
    """Convert finite numbers to float64 on the CPU, without a gradient."""
    try:
        tensor = torch.as_tensor(value, dtype=F64).detach().cpu()
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be numbers, or rows of numbers of one length, got {shown(value)}") from error
    if not tensor.isfinite().all():
        raise InputError(f"{name} must be finite numbers, got {tensor[~tensor.isfinite()][0].item()}")
    return tensor


def dtype_of(value: Numbers) -> torch.dtype:
    """Original floating-point dtype of numbers, which sets their rounding error; float64 for plain numbers."""
    if isinstance(value, np.ndarray | np.generic):
        value = torch.from_numpy(np.asarray(value))
    return value.dtype if isinstance(value, Tensor) and value.is_floating_point() else F64


def vector(name: str, value: Numbers, length: int | None = None) -> Tensor:
    """Convert to a vector (D,); a plain number gives a vector of length one."""
    tensor = numbers(name, value)
    tensor = tensor.reshape(1) if tensor.dim() == 0 else tensor
    if tensor.dim() != 1 or len(tensor) < 1 or length not in (None, len(tensor)):
        wanted = "at least one number" if length is None else f"{length} numbers"
        raise InputError(f"{name} must be a vector of {wanted}, got shape {tuple(tensor.shape)}")
    return tensor


def matrix(name: str, value: Numbers, rows: int, columns: int | None = None) -> Tensor:
    """Convert to a matrix (rows, columns); a plain number gives a 1 x 1 matrix."""
    tensor = numbers(name, value)
    tensor = tensor.reshape(1, 1) if tensor.dim() == 0 else tensor
    if tensor.dim() != 2 or len(tensor) != rows or columns not in (None, tensor.shape[1]):
        wanted = f"{rows} rows" + ("" if columns is None else f" and {columns} columns")
        raise InputError(f"{name} must be a matrix of {wanted}, got shape {tuple(tensor.shape)}")
    return tensor


def covariance(name: str, value: Numbers, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the covariance (D, D), its variances along the principal axes (D,), and the axes as columns (D, D).

    Asymmetry and negative eigenvalues within the rounding error of the original dtype are removed.
    """
    given = matrix(name, value, size, size)
    rounding = size * torch.finfo(dtype_of(value)).eps * given.abs().max()
    asymmetry = (given - given.T).abs()
    if asymmetry.max() > rounding:
        i, j = divmod(int(asymmetry.argmax()), size)
        raise InputError(
            f"{name} must be symmetric, got {given[i, j].item():g} at [{i}, {j}] and {given[j, i].item():g} at [{j}, {i}]; "
            f"({name} + {name}.T) / 2 is symmetric"
        )
    cov = (given + given.T) / 2
    variances, axes = torch.linalg.eigh(cov)
    if (variances < -rounding).any():
        raise InputError(f"{name} must have no negative eigenvalue, got one of {variances.min().item():g}")
    smallest = size * torch.finfo(F64).eps * cov.abs().max()
    return cov, torch.where(variances > smallest, variances, 0.0), axes


def examples(name: str, value: Tensor, num_dims: int) -> Tensor:
    """Convert to a batch of vectors (n, D)."""
    tensor = numbers(name, value)
    if tensor.dim() != 2 or tensor.shape[1] != num_dims:
        raise InputError(
            f"{name} must have shape (n, {num_dims}), one row per example, got {tuple(tensor.shape)}; "
            f"reshape it by .reshape(-1, {num_dims})"
        )
    return tensor


def level(a: Numbers, b: Numbers) -> tuple[Tensor, Tensor]:
    """Convert the noise level (a, b) of z = a x + b eps to columns (1, 1), or (n, 1) with one level per example."""
    a, b = (numbers(name, value).reshape(-1, 1) for name, value in (("a", a), ("b", b)))
    if min(len(a), len(b)) < 1 or (len(a) != len(b) and min(len(a), len(b)) > 1):
        raise InputError(f"a noise level is a pair a, b, or equally many of both, got {len(a)} and {len(b)}")
    if (b < 0).any():
        raise InputError(f"the noise b is a standard deviation and must be 0 or more, got {b.min().item():g}")
    return a, b
