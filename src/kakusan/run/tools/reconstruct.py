"""Reconstructions of given examples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kakusan.images import Images
from kakusan.noise import example_streams
from kakusan.progress import progress
from kakusan.run.directory import check_folder
from kakusan.run.tools.files import check_file, examples_of, write_new
from kakusan.solvers import Solver
from kakusan.solvers.loop import BATCH
from kakusan.storage.arrays import npy_bytes

if TYPE_CHECKING:
    from kakusan.run.trained_model import TrainedModel

MOST_SHOWN = 100  # largest number of examples in the figure
PAIRS_PER_ROW = 10
ARRAY, FIGURE = "reconstructions.npy", "reconstructions.png"


def reconstruct(
    model: TrainedModel,
    data: Any,
    t: int | None = None,
    *,
    steps: int | None = None,
    solver: Solver | str | None = None,
    seed: int = 0,
) -> Images | np.ndarray:
    """Encode given examples and decode their latents.

    Without t the result is deterministic: the decoder's mean at the encoder's mean, or for a diffusion model DDIM
    inversion and DDIM. With t, latents up to z_t are drawn and then decoded deterministically. A larger t keeps less of the
    example.

    Args:
        model: A trained model of images.
        data: As in `TrainedModel.evaluate`.
        t: Level in 1..T up to which noise is drawn; default: none is drawn.
        steps: Steps in each direction, diffusion only; default: 50, or T if smaller.
        solver: A deterministic solver or its name, diffusion only; default: "ddim".
        seed: Random seed; the noise of example i depends on the seed and i alone.

    Returns:
        Examples in the form that `TrainedModel.sample` returns.

    Raises:
        InputError: If the model is not one of images, the examples do not fit it, or t is outside 1..T.
    """
    examples, latents = model.examples(data), model.family.latents(model, steps, solver)
    batch, parts = model.batches(examples, seed), []
    for rows in progress(torch.arange(len(examples)).split(BATCH), "reconstructing"):
        x = batch(rows)
        model.chain.validate(x)
        cond = latents.cond_of(x)
        if t is None:
            parts.append(latents.decode(latents.encode(x, cond), cond))
        else:
            parts.append(latents.through(x, t, example_streams(seed, range(int(rows[0]), int(rows[-1]) + 1)), cond))
    return model.stored(parts)


def reconstruct_files(
    run: Path | str, path: str, out: Path, *, t: int | None = None, limit: int | None = None, device: str = "auto",
    seed: int = 0, **choices: Any,
) -> list[Path]:  # fmt: skip
    """Write OUT/reconstructions.npy and, for images, OUT/reconstructions.png with each example above its reconstruction.

    Args:
        run: Run directory or exported file.
        path: Data of the model's shape, all of which are used.
        out: Folder without such files in it.
        t: See `reconstruct`.
        limit: Number of examples, from the first one on; default: all.
        device: "auto", "cpu", "cuda" or "cuda:N".
        seed: See `reconstruct`.
        choices: See `reconstruct`.
    """
    check_folder(out, f"{FIGURE} and {ARRAY}")
    for name in (ARRAY, FIGURE):
        check_file(out / name, (".npy", ".png"))
    model, dataset = examples_of(run, path, device)
    given = dataset.test[:limit]
    found = reconstruct(model, given, t, seed=seed, **choices)
    write_new(out / ARRAY, npy_bytes(found))
    if not model.family.form.has_figure:
        return [out / ARRAY]
    shown = in_pairs(model.family.form.samples(given[:MOST_SHOWN]), np.asarray(found[:MOST_SHOWN]))
    columns = min(PAIRS_PER_ROW, len(found))
    model.family.form.save_figure(shown, out / FIGURE, {"run": run, "upper row": "examples"}, columns)
    return [out / FIGURE, out / ARRAY]


def in_pairs(upper: np.ndarray, lower: np.ndarray, columns: int = PAIRS_PER_ROW) -> np.ndarray:
    """Return images in reading order whose rows alternate between `upper` and `lower`."""
    rows = [part[k : k + columns] for k in range(0, len(upper), columns) for part in (upper, lower)]
    short = len(upper) % columns
    if short and len(upper) > columns:  # pad the upper row of a short last pair, so that the lower row lines up
        rows[-2] = np.concatenate([rows[-2], np.zeros((columns - short, *upper.shape[1:]), upper.dtype)])
    return np.concatenate(rows)
