"""Interpolation between given examples in latent space."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kakusan.errors import InputError
from kakusan.images import Images
from kakusan.progress import progress
from kakusan.run.tools.files import check_file, make_folder_of, one_example, write_new
from kakusan.run.trained_model import load
from kakusan.solvers import Solver
from kakusan.storage.arrays import npy_bytes

if TYPE_CHECKING:
    from kakusan.run.trained_model import TrainedModel


def interpolate(
    model: TrainedModel,
    a: Any,
    b: Any,
    n: int = 8,
    *,
    steps: int | None = None,
    solver: Solver | str | None = None,
    seed: int = 0,
) -> Images | np.ndarray:
    """Decode n latents on the path from the latent of a to the latent of b, including both ends.

    The path is a straight line for a VAE (in z_1 if hierarchical), and a great circle in z_T for a diffusion model.
    The first and the last result are the reconstructions of a and b. In a model with classes the first half has the class
    of a and the second that of b.

    Args:
        model: A trained model of images.
        a: One stored example, or a batch of m.
        b: As many examples as a.
        n: Number of examples from a to b, at least 2.
        steps: See `run.tools.reconstruct.reconstruct`.
        solver: See `run.tools.reconstruct.reconstruct`.
        seed: Random seed; matters only if the model draws bits from gray levels.

    Returns:
        m * n examples in the form that `TrainedModel.sample` returns, one pair after another.

    Raises:
        InputError: If n is below 2, or a and b do not fit the model or each other.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 2:
        raise InputError(f"an interpolation has at least 2 examples, its ends, got n = {n!r}")
    ends = [_batch(model, one) for one in (a, b)]
    if len(ends[0]) != len(ends[1]):
        raise InputError(f"a and b must be as many examples, got {len(ends[0])} and {len(ends[1])}")
    num, latents = len(ends[0]), model.family.latents(model, steps, solver)
    x = model.batches(torch.cat(ends), seed)(torch.arange(2 * num))
    model.chain.validate(x)
    cond = latents.cond_of(x)
    z = latents.encode(x, cond)
    parts = []
    for share in progress(torch.linspace(0, 1, n, dtype=torch.float64).tolist(), "decoding"):
        known = None if cond is None else cond[:num] if share < 0.5 else cond[num:]
        parts.append(latents.decode(latents.between(z[:num], z[num:], share), known))
    return model.stored([torch.stack(parts, 1).flatten(0, 1)])


def _batch(model: TrainedModel, given: Any) -> Tensor:
    """Return stored examples as a batch; a single example becomes a batch of one."""
    array = given if isinstance(given, Tensor) else np.asarray(given)
    return model.examples(array[None] if array.ndim == len(model.event_shape) else array)


def interpolate_file(
    run: Path | str, a: str, b: str, out: Path, *, n: int = 8, device: str = "auto", seed: int = 0, **choices: Any
) -> Path:
    """Write an interpolation between two examples as one row of a .png figure, or as a .npy array.

    Args:
        run: Run directory or exported file.
        a: Image file, or the number of a held-out example of the run's data.
        b: The other end, in the same form.
        out: New .png or .npy file.
        n: See `interpolate`.
        device: "auto", "cpu", "cuda" or "cuda:N".
        seed: See `interpolate`.
        choices: See `interpolate`.
    """
    check_file(out, (".png", ".npy"))
    model = load(run, device)
    if out.suffix.lower() == ".png" and not model.family.form.has_figure:
        raise InputError(f"{model.family.form.name} have no figure; give --out a name that ends in .npy, got {out}")
    found = interpolate(model, one_example(model, run, a), one_example(model, run, b), n, seed=seed, **choices)
    if out.suffix.lower() == ".npy":
        write_new(out, npy_bytes(found))
    else:
        make_folder_of(out)
        model.family.form.save_figure(found, out, {"run": run, "from": a, "to": b}, n)
    return out
