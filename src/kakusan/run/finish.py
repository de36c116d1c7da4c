"""Measurements during training, and the end of a run: figures, summary and report."""

from __future__ import annotations

from typing import Any

import torch

from kakusan import distributed
from kakusan.console import tell
from kakusan.data.dataset import Dataset
from kakusan.run.build import family_of
from kakusan.run.directory import RunDirectory
from kakusan.run.families.conditional import known_labels
from kakusan.run.figures import closest_pairs, final_figures, sample_grid
from kakusan.run.recipe import Recipe
from kakusan.run.report.page import render
from kakusan.run.student import used_weights
from kakusan.run.summary import SUMMARY_SAMPLES, SUMMARY_SEED, quality_of, summarize
from kakusan.run.trained_model import TrainedModel
from kakusan.storage.tensors import digest
from kakusan.training.loop import Trainer

MARKS = [0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0]  # shares of the budget after which the run is saved and measured
MEASURED_IMAGES = 1000  # most held-out examples measured at a mark, and least number at the end
FEWEST_IMAGES = 250  # fewest held-out examples measured at a mark; below 1,000 the bound has no control variate
EVALUATIONS = 3  # cost of a training example in network evaluations: forward and backward
BOUND_SHARE, QUALITY_SHARE = 0.1, 0.5  # share of training's network evaluations that measuring may cost


def draw(model: TrainedModel, trainer: Trainer, dataset: Dataset, run: RunDirectory) -> None:
    """Write a figure of samples, always from the same noise. All ranks must call it."""
    if dataset.form.has_figure:
        sample_grid(model, run.samples / f"step-{trainer.state.step:08d}.png")


def measure(model: TrainedModel, trainer: Trainer, dataset: Dataset) -> dict[str, Any]:
    """Return a line of the history, with the bound of the first held-out examples, always from the same noise.

    All ranks must call it.
    """
    rate = trainer.state.images(trainer.settings.batch) / max(trainer.state.seconds, 1e-9)
    bound: dict[str, Any] = {}
    if model.family.has_bound:
        num = _examples_at_a_mark(model, trainer)
        held_out = dataset.test[:num]
        labels = known_labels(model.recipe.model, dataset, "test", num)
        result = model.evaluate(held_out, labels=labels)
        bound = {
            "bits_per_dim": result.bits_per_dim,
            "standard_error": result.standard_error,
            "terms": result.terms,
            **_training_bound(model, dataset, len(held_out)),
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


def _examples_at_a_mark(model: TrainedModel, trainer: Trainer) -> int:
    """Return how many held-out examples to measure at a mark; as many training examples are measured.

    The number is halved, down to FEWEST_IMAGES, until all marks together cost at most BOUND_SHARE of training's network
    evaluations. The total for training is extrapolated from the progress so far.
    """
    trained = EVALUATIONS * trainer.state.images(trainer.settings.batch) / max(trainer.progress, 1e-9)
    num = MEASURED_IMAGES
    while not model.family.closed_form and num > FEWEST_IMAGES and 2 * num * len(MARKS) > BOUND_SHARE * trained:
        num //= 2
    return num


def _training_bound(model: TrainedModel, dataset: Dataset, num: int) -> dict[str, Any]:
    """Measure the bound of `num` training examples, always the same ones, evenly spaced over the training set."""
    if dataset.train is dataset.test:
        return {}
    num = min(num, len(dataset.train))
    rows = torch.linspace(0, len(dataset.train) - 1, num, dtype=torch.float64).long()
    labels = known_labels(model.recipe.model, dataset, "train", None)
    result = model.evaluate(dataset.train[rows], labels=None if labels is None else labels[rows])
    return {"train_bits_per_dim": result.bits_per_dim, "train_standard_error": result.standard_error}


def measured_words(line: dict[str, Any], dataset: Dataset) -> str:
    """Return the bound in a line of the history as text; empty for a student."""
    if "bits_per_dim" not in line:
        return ""
    return dataset.form.rate(line["bits_per_dim"], line["standard_error"], dataset.num_dims, digits=3)


def averaged_model(trainer: Trainer, recipe: Recipe, dataset: Dataset) -> TrainedModel:
    """Return the trained model, which has the averaged weights."""
    return TrainedModel(recipe, trainer.ema.module, dataset.event_shape, trainer.device, trainer.early)


def finish(run: RunDirectory, recipe: Recipe, dataset: Dataset, trainer: Trainer) -> None:
    """Write figures and a first report, measure, then write report and summary. All ranks must call it.

    Measuring costs at most a share of the cost of training, so that a short run ends soon.
    """
    model = averaged_model(trainer, recipe, dataset)
    examples = trainer.state.images(trainer.settings.batch)
    tell(f"trained for {trainer.state.step:,} steps, {examples / len(dataset.train):.2g} epochs; drawing samples")
    if dataset.form.has_figure:
        final_figures(model, dataset, run.path)
    summary: dict[str, Any] = {
        "lines": [],
        "steps": trainer.state.step,
        "skipped": trainer.state.num_skipped,
        "seconds": round(trainer.state.seconds, 1),
        "examples": examples,
        "weights_sha256": digest(used_weights(recipe, trainer.ema.module.state_dict())),
    }
    _write_report(run, summary)
    held_out, num_samples = _affordable(model, dataset, EVALUATIONS * examples)
    tell(f"{run.report} shows samples; measuring on {held_out:,} of {len(dataset.test):,} held-out examples")
    summary |= summarize(model, dataset, held_out)
    if num_samples:
        quality = quality_of(model, dataset, num_samples)
        summary |= quality.parts
        summary["lines"] += quality.lines
        if quality.parts:
            closest = quality.parts["samples"]["closest"]
            closest_pairs(model, dataset, closest, SUMMARY_SEED, run.path / "closest.png")
    values, lines = family_of(recipe.model).finish(trainer.module, dataset.train)
    summary |= values
    summary["lines"] += lines
    _write_report(run, summary)
    if distributed.is_rank0():
        run.write("summary.json", summary)  # written last, because its presence means that the run is finished


def _write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    if distributed.is_rank0():
        run.write_bytes(run.report.name, render(run, summary).encode())


def _affordable(model: TrainedModel, dataset: Dataset, trained: int) -> tuple[int, int]:
    """Return how many held-out examples and samples to measure after `trained` network evaluations of training."""
    held_out = len(dataset.test)
    if not model.family.closed_form:
        held_out = min(held_out, max(MEASURED_IMAGES, int(BOUND_SHARE * trained)))
    evaluations = SUMMARY_SAMPLES * model.sampling.evaluations_per_sample
    return held_out, SUMMARY_SAMPLES if evaluations <= QUALITY_SHARE * trained else 0
