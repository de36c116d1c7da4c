"""What a run measures on its way and at its end."""

from __future__ import annotations

from typing import Any, cast

from kakusan import distributed
from kakusan.console import tell
from kakusan.data.dataset import Dataset
from kakusan.likelihood.evaluation import stderr_words
from kakusan.models.dirichlet_fit import ConjugateFit
from kakusan.run.build import Trainable
from kakusan.run.directory import RunDirectory
from kakusan.run.figures import closest_pairs, final_pictures, sample_grid
from kakusan.run.recipe import Recipe
from kakusan.run.report.page import render
from kakusan.run.student import used_weights
from kakusan.run.summary import SUMMARY_SEED, summarise_run
from kakusan.run.trained_model import TrainedModel
from kakusan.storage.tensors import digest
from kakusan.train.loop import Trainer

MEASURED_IMAGES = 1000


def draw(model: TrainedModel, trainer: Trainer, dataset: Dataset, run: RunDirectory) -> None:
    """A sheet of samples, always of the same noise; all processes must ask together."""
    if dataset.kind == "images":
        sample_grid(model, run.samples / f"step-{trainer.state.step:08d}.png")


def measure(model: TrainedModel, trainer: Trainer, dataset: Dataset) -> dict[str, Any]:
    """The held-out bound, if there is one, always with the same noise; all processes must ask together."""
    rate = trainer.state.images(trainer.settings.batch) / max(trainer.state.seconds, 1e-9)
    bound: dict[str, Any] = {}
    if not model.is_student:
        result = model.evaluate(dataset.test[:MEASURED_IMAGES])
        bound = {
            "bits_per_dim": result.bits_per_dim,
            "standard_error": result.standard_error,
            "terms": result.terms,
        }
    return {
        "step": trainer.state.step,
        "seconds": round(trainer.state.seconds, 2),
        "examples": trainer.state.images(trainer.settings.batch),
        "examples_per_second": round(rate, 1),
        "loss": None if trainer.state.loss is None else round(trainer.state.loss, 6),
        "skipped": trainer.state.num_skipped,
        **bound,
    }


def measured_words(line: dict[str, Any]) -> str:
    """What `measure` found, in a few words; nothing of a student."""
    if "bits_per_dim" not in line:
        return ""
    return f"{line['bits_per_dim']:.3f} ± {stderr_words(line['standard_error'])} bits/dim"


def averaged_model(trainer: Trainer, recipe: Recipe, dataset: Dataset) -> TrainedModel:
    """The model with the weights that it is used with."""
    module = cast(Trainable, trainer.ema.module)
    return TrainedModel(recipe, module, dataset.event_shape, trainer.device, trainer.early)


def finish(run: RunDirectory, recipe: Recipe, dataset: Dataset, trainer: Trainer) -> None:
    """Measure on the whole held-out part, draw the pictures, write the summary and the report."""
    model = averaged_model(trainer, recipe, dataset)
    passes = trainer.state.images(trainer.settings.batch) / len(dataset.train)
    tell(
        f"trained for {trainer.state.step:,} steps, {passes:.2g} passes over the data; drawing, and measuring on what was "
        f"held out ({len(dataset.test):,})"
    )
    if dataset.kind == "images":
        final_pictures(model, dataset, run.path)
    summary = summarise_run(model, dataset)
    if "samples" in summary:
        closest_pairs(model, dataset, summary["samples"]["closest"], SUMMARY_SEED, run.path / "closest.png")
    summary |= {
        "steps": trainer.state.step,
        "skipped": trainer.state.num_skipped,
        "seconds": round(trainer.state.seconds, 1),
        "examples": trainer.state.images(trainer.settings.batch),
        "weights_sha256": digest(used_weights(recipe, trainer.ema.module.state_dict())),
    }
    if isinstance(trainer.module, ConjugateFit):
        distance = trainer.module.distance_to_exact(dataset.train.to(trainer.device))
        summary["largest_relative_distance_to_exact_posterior"] = distance
        summary["lines"].append(f"gradient ascent ended at gamma = (x + alpha)(1 ± {distance:.1e})")
    if not distributed.is_rank0():
        return
    run.write_bytes(run.report.name, render(run, summary).encode())
    run.write("summary.json", summary)  # last: it says that the run is finished
    conclude(run)


def conclude(run: RunDirectory) -> None:
    """The numbers of a finished run and where to look, on stdout; the weights' digest last."""
    summary = run.read("summary.json")
    print(*summary["lines"], sep="\n")
    print(f"\nlook at   {run.report}\nthen try  kakusan sample {run.path} -n 100\n")
    print(f"weights {summary['weights_sha256']}")
