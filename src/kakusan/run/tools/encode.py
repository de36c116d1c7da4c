"""Latents of given examples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kakusan.progress import progress
from kakusan.run.tools.files import check_file, examples_of, write_new
from kakusan.solvers import Solver
from kakusan.solvers.loop import BATCH
from kakusan.storage.arrays import npy_bytes

if TYPE_CHECKING:
    from kakusan.run.trained_model import TrainedModel


def encode(
    model: TrainedModel, data: Any, *, steps: int | None = None, solver: Solver | str | None = None, seed: int = 0
) -> np.ndarray:
    """Return latents of given examples. The latents of an example do not depend on the batch.

    | model | latents |
    |---|---|
    | VAE | mean of q(z given x), (n, latent size) |
    | hierarchical VAE | means of q(z_l given the mean below), z_1 to z_L concatenated, (n, sum of sizes) |
    | diffusion | z_T by DDIM inversion, (n, C, H, W) on the model's scale; Gaussian noise for a good model |
    | Dirichlet-multinomial | posterior mean of the category probabilities, (n, K) |

    Args:
        model: A trained model.
        data: As in `TrainedModel.evaluate`.
        steps: Steps of the inversion, diffusion only; default: 50, or T if smaller.
        solver: A deterministic solver or its name, diffusion only; default: "ddim".
        seed: Random seed; matters only if the model draws bits from gray levels.

    Returns:
        Floating-point array in the order of the examples.

    Raises:
        InputError: If the examples do not fit the model, or the solver draws noise.
    """
    examples, latents = model.examples(data), model.family.latents(model, steps, solver)
    batch, parts = model.batches(examples, seed), []
    for rows in progress(torch.arange(len(examples)).split(BATCH), "encoding"):
        x = batch(rows)
        model.chain.validate(x)
        parts.append(latents.encode(x, latents.cond_of(x)).cpu())
    return torch.cat(parts).numpy()


def encode_file(
    run: Path | str, path: str, out: Path, *, device: str = "auto", seed: int = 0, **choices: Any
) -> tuple[int, ...]:
    """Write the latents of a data file or folder to a .npy file, and return the shape of the array.

    Args:
        run: Run directory or exported file.
        path: Data of the model's shape, all of which are used.
        out: New .npy file.
        device: "auto", "cpu", "cuda" or "cuda:N".
        seed: See `encode`.
        choices: See `encode`.
    """
    check_file(out, (".npy",))
    model, dataset = examples_of(run, path, device)
    found = encode(model, dataset.test, seed=seed, **choices)
    write_new(out, npy_bytes(found))
    return found.shape
