"""Comparison of two trained models on the same examples with the same noise."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kakusan.console import tell, tell_measuring
from kakusan.errors import InputError
from kakusan.likelihood.compare import Comparison
from kakusan.likelihood.compare import compare as compare_evaluations
from kakusan.likelihood.evaluation import Evaluation
from kakusan.run.evaluation_data import data_of
from kakusan.run.families.conditional import known_labels
from kakusan.run.looks import Stopped, measure_until_decided
from kakusan.run.source import open_source
from kakusan.run.trained_model import TrainedModel, load
from kakusan.timesteps import StepLaw

CLEAR = 2.0  # difference in standard errors above which one model is called better


@dataclass(frozen=True)
class Compared:
    """Two evaluations and their paired difference."""

    paths: tuple[str, str]
    evaluations: tuple[Evaluation, Evaluation]
    comparison: Comparison
    stopped: Stopped | None = None

    def record(self) -> dict[str, Any]:
        """Return plain JSON values."""
        looks = {} if self.stopped is None else {"until_decided": asdict(self.stopped)}
        runs = {path: result.record() for path, result in zip(self.paths, self.evaluations)}
        return {**self.comparison.record(), **looks, "runs": runs}

    def lines(self) -> list[str]:
        """Return the result as lines of text."""
        found = self.comparison
        lines = [f"{path}: {result}" for path, result in zip(self.paths, self.evaluations)]
        far = (
            f"{abs(found.difference) / found.standard_error:.1f} standard errors" if found.standard_error else "exactly"
        )
        lines.append(
            f"difference {found.difference:+.4f} ± {found.standard_error:.4f} bits/dim over the same "
            f"{found.num_images:,} examples ({far}; unpaired it would be ± {found.unpaired_error:.4f})"
        )
        if self.stopped is not None:
            return [*lines, self.stopped.words(self.paths)]
        if found.standard_error and abs(found.difference) > CLEAR * found.standard_error:
            fewer = self.paths[found.difference > 0]
            lines.append(f"{fewer} needs fewer bits, which in short runs does not imply better samples")
        return lines


def compare(
    first: Path | str,
    second: Path | str,
    *,
    split: str = "test",
    limit: int | None = None,
    data: str | None = None,
    until_decided: bool = False,
    seed: int = 0,
    device: str = "auto",
) -> Compared:
    """Evaluate two run directories or exported files on the same examples with the same noise.

    Args:
        first: Run directory or exported file.
        second: Run directory or exported file to compare with, for the same kind of data.
        split: "test" (held out) or "train".
        limit: Number of examples, from the first one on (default: all).
        data: Other data of the same shape (default: the first run's own).
        until_decided: Measure examples in random order, and stop when a confidence sequence excludes a difference of 0.
        seed: Random seed.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
    """
    if limit is not None and limit < 2:
        raise InputError(f"--limit must be at least 2, got {limit}")
    paths = (str(first), str(second))
    models = [load(first, device), load(second, device)]
    for model in models:
        model.check_bound()
    kinds = [model.measured_in for model in models]
    if kinds[0] != kinds[1]:
        raise InputError(f"{first} measures {kinds[0]} and {second} {kinds[1]}; they cannot be compared")
    dataset = data_of(open_source(first), models[0], data)
    models[1].check_data(dataset)
    if open_source(second).facts.data.digest != dataset.digest():
        tell(
            f"{second} was trained on other data or another split: some of these examples may be its training examples"
        )
    tell(f"on {dataset.describe()}")
    examples = (dataset.test if split == "test" else dataset.train)[:limit]
    law = _common_law(models)
    if until_decided:
        known = [known_labels(model.recipe.model, dataset, split, limit) for model in models]
        results, stopped = measure_until_decided(models, examples, seed, law, known)
        return Compared(paths, results, compare_evaluations(*results), stopped)
    results = []
    for path, model in zip(paths, models):
        tell_measuring(len(examples), f" by {path}")
        results.append(
            model.evaluate(examples, seed, law=law, labels=known_labels(model.recipe.model, dataset, split, limit))
        )
    return Compared(paths, (results[0], results[1]), compare_evaluations(*results))


def _common_law(models: list[TrainedModel]) -> StepLaw | None:
    """Return one timestep distribution for two diffusion models of equal depth, so that both see the same noised examples."""
    first, second = (model.family.timestep_law(model) for model in models)
    if first is None or second is None or len(first.probs) != len(second.probs):
        return None
    return StepLaw((first.probs + second.probs) / 2)
