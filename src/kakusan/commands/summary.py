"""The numbers of a finished run."""

from __future__ import annotations

from typing import Any

from kakusan.data.dataset import Dataset
from kakusan.diffusion import Diffusion
from kakusan.likelihood.evaluation import Evaluation, spread_words
from kakusan.likelihood.information import LatentLevel
from kakusan.likelihood.three import three_estimates
from kakusan.measure.digits import recognised_share
from kakusan.model import TrainedModel

RECOGNISED_SAMPLES = 1000
NAMED = 8  # collapsed latents; all of them stand in --json


def summarise_run(model: TrainedModel, dataset: Dataset) -> dict[str, Any]:
    """Everything measured at the end, and the lines that say it to a person."""
    result = model.evaluate(dataset.test)
    summary: dict[str, Any] = {"likelihood": result.record()}
    lines = [
        f"held-out bound: {result} = {result.bits_per_example:.1f} bits an example "
        f"({result.num_images:,} examples, {result.network_evaluations:,} network calls)",
        f"  {error_words(result)}",
    ]
    if isinstance(model.chain, Diffusion):
        summary["three_estimates"] = three_estimates(
            model.chain, model.batches(dataset.test), len(dataset.test), offset_nats=model.grid_nats()
        )
        lines += three_lines(summary["three_estimates"])
    summary["third_term"] = {form: e.record() for form, e in model.evaluate_third_terms(dataset.test).items()}
    lines += third_term_lines(summary["third_term"])
    latents = model.latents(dataset.test)
    summary["latents"] = [level.record() for level in latents]
    lines += latent_lines(latents)
    if model.recipe.data == "mnist":
        samples = model.sample(RECOGNISED_SAMPLES, seed=1)
        real = dataset.test.permute(0, 2, 3, 1).numpy()
        summary["recognised"] = {
            "samples": recognised_share(samples),
            "real": recognised_share(real),
            "num_samples": len(samples),
        }
        lines.append(
            f"the digit classifier is at least 90 % sure of {summary['recognised']['samples']:.1%} of {len(samples):,} samples "
            f"(of {summary['recognised']['real']:.1%} of the real test digits)"
        )
    summary["lines"] = lines
    return summary


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
        f"  third term {form:<6}{e['bits_per_dim']:9.4f} ± {spread_words(e['standard_error'])} bits/dim = {e['nats']:.3f} nats: {words[form]}"
        for form, e in forms.items()
    ]


def error_words(result: Evaluation) -> str:
    """Where the error comes from."""
    if result.standard_error_monte_carlo is None:
        return "of the error, how much is the draws' was not measured"
    noise = f"of the error: {result.standard_error_monte_carlo:.4f} Monte Carlo (more calls lower it), "
    if not result.standard_error_images:
        return noise + "what examples differ by too small to tell"
    return noise + f"{spread_words(result.standard_error_images)} between examples (more examples lower it)"


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
