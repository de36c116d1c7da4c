"""The numbers of a model: its bound by term, and its samples beside real pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from kakusan.console import counted
from kakusan.data.dataset import Dataset
from kakusan.likelihood.evaluation import Evaluation, stderr_words
from kakusan.likelihood.information import LatentLevel
from kakusan.likelihood.three import three_estimates
from kakusan.measure.samples import Quality
from kakusan.models.diffusion import Diffusion
from kakusan.run.quality import can_measure, sample_quality
from kakusan.run.trained_model import TrainedModel

SUMMARY_SAMPLES, SUMMARY_SEED = 1000, 1
NO_BOUND = "a student has no bound: it makes samples, one network call each, and says nothing of given examples"
SMALLEST_SHOWN = 0.00005  # bits/dim, which four decimals show as 0.0001
NAMED = 8  # collapsed latents; all of them stand in --json


@dataclass(frozen=True)
class Measured:
    """The bound of some examples, and what goes with it for each family."""

    result: Evaluation
    three_estimates: dict[str, dict[str, float]]  # of a diffusion model
    third_term: dict[str, dict[str, Any]]  # of a hierarchy
    latents: list[LatentLevel]  # of a VAE or a hierarchy

    def parts(self) -> dict[str, Any]:
        """As plain JSON values, without the bound itself; what a family has not is left out."""
        found = {
            "three_estimates": self.three_estimates,
            "latents": [level.record() for level in self.latents],
            "third_term": self.third_term,
        }
        return {name: part for name, part in found.items() if part}

    def lines(self) -> list[str]:
        """The parts, for people."""
        return latent_lines(self.latents) + three_lines(self.three_estimates) + third_term_lines(self.third_term)


def measure_bound(model: TrainedModel, data: Tensor, seed: int = 0, importance: int | None = None) -> Measured:
    """Everything that the bound of these examples tells."""
    result = model.evaluate(data, seed, importance)
    three: dict[str, dict[str, float]] = {}
    if isinstance(model.chain, Diffusion):
        three = three_estimates(model.chain, model.batches(data), len(data), seed, offset_nats=model.grid_nats())
    forms = {form: e.record() for form, e in model.evaluate_third_terms(data, seed).items()}
    return Measured(result, three, forms, model.latents(data, seed))


def summarise_run(model: TrainedModel, dataset: Dataset) -> dict[str, Any]:
    """Everything measured at the end, and the lines that say it to a person."""
    summary, lines = ({}, [NO_BOUND]) if model.is_student else _summarise_bound(model, dataset)
    if model.recipe.data == "mnist" and can_measure(model, dataset, SUMMARY_SAMPLES):
        quality = sample_quality(model, dataset, SUMMARY_SAMPLES, SUMMARY_SEED)
        summary["samples"] = quality.record()
        summary["recognised"] = {
            "samples": quality.values["recognized"].value,
            "real": quality.floor["recognized"].value,
            "num_samples": quality.num_samples,
        }
        lines += quality_lines(quality)
    summary["lines"] = lines
    return summary


LEVELS_BITS = 8  # of 256 grey levels, all alike likely


def _summarise_bound(model: TrainedModel, dataset: Dataset) -> tuple[dict[str, Any], list[str]]:
    measured = measure_bound(model, dataset.test)
    result = measured.result
    lines = [
        f"held-out bound: {result} = {result.bits_per_example:.1f} bits an example "
        f"({counted(result.num_images, 'example')}, {counted(result.network_evaluations, 'network call')})",
        f"  {error_words(result)}",
        *measured.lines(),
    ]
    if model.measured_in == "grey levels" and result.bits_per_dim > LEVELS_BITS:
        lines.append(f"caution: more than the {LEVELS_BITS} bits/dim of pictures of noise: train longer")
    return {"likelihood": result.record(), **measured.parts()}, lines


def quality_lines(quality: Quality) -> list[str]:
    """The measures that tell most in few words."""
    sure, distance = quality.values["recognized"], quality.values["frechet_distance"]
    return [
        f"the digit classifier is at least 90 % sure of {sure.value:.1%} of {quality.num_samples:,} samples "
        f"(of {quality.floor['recognized'].value:.1%} of the real test digits)",
        f"Frechet distance on its features, n = {quality.num_samples:,}: {distance.value:.2f} ± {distance.standard_error:.2f} "
        f"(training digits in their place: {quality.floor['frechet_distance'].value:.2f})",
    ]


def three_lines(estimates: dict[str, dict[str, float]]) -> list[str]:
    """One line for each of path, pair and single."""
    return [
        f"  {name:<6} {e['bits_per_dim']:9.4f} ± {e['standard_error']:.4f} bits/dim from {e['network_evaluations']:,} calls"
        + (f", {e['errors_from_path']:+.1f} standard errors from path" if "errors_from_path" in e else "")
        for name, e in estimates.items()
    ]


def third_term_lines(forms: dict[str, dict[str, Any]]) -> list[str]:
    """One line for each form of the terms between a hierarchy's levels."""
    words = {"exact": "the ELBO", "notes": "the study notes' form, a looser bound of another family"}
    return [
        f"  third term {form:<6}{e['bits_per_dim']:9.4f} ± {stderr_words(e['standard_error'])} bits/dim = {e['nats']:.3f} nats: {words[form]}"
        for form, e in forms.items()
    ]


def error_words(result: Evaluation) -> str:
    """Where the error comes from."""
    if result.standard_error_monte_carlo is None:
        return "of the error, how much is the draws' was not measured"
    noise = f"of the error: {result.standard_error_monte_carlo:.4f} Monte Carlo (more calls lower it), "
    if not result.standard_error_images or result.standard_error_images < SMALLEST_SHOWN:
        return noise + "what examples differ by too small to tell"
    return noise + f"{stderr_words(result.standard_error_images)} between examples (more examples lower it)"


def latent_lines(levels: list[LatentLevel]) -> list[str]:
    """One line for each level of latents."""
    lines = []
    for level in levels:
        idle = f" ({', '.join(map(str, level.collapsed))})" if 0 < len(level.collapsed) <= NAMED else ""
        lines.append(
            f"  {level.name}: {level.total:.1f} bits in {len(level.bits)} latents, {max(level.bits):.2f} in the fullest, "
            f"{len(level.collapsed)} collapsed{idle}"
        )
    return lines
