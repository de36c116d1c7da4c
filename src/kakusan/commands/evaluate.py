"""kakusan evaluate: bits per dimension with a standard error, by term."""

from __future__ import annotations

import json
from typing import Any

from kakusan.cli import Evaluate
from kakusan.commands.given import data_of
from kakusan.commands.say import tell
from kakusan.commands.summary import error_words, latent_lines, third_term_lines, three_lines
from kakusan.diffusion import Diffusion
from kakusan.errors import InputError
from kakusan.likelihood.evaluation import Part, spread_words
from kakusan.likelihood.three import three_estimates
from kakusan.model import load


def main(command: Evaluate) -> int:
    """Evaluate and print; with --json one object alone on stdout."""
    if command.limit is not None and command.limit < 1:
        raise InputError(f"--limit must be at least 1, got {command.limit}")
    model = load(command.run, command.device)
    dataset = data_of(command.run, model, command.data)
    data = (dataset.test if command.split == "test" else dataset.train)[: command.limit]
    result = model.evaluate(data, command.seed, command.importance)
    three = None
    if isinstance(model.chain, Diffusion):
        tell("estimating the same bound from paths, pairs and single latents")
        three = three_estimates(
            model.chain, model.batches(data), len(data), command.seed, offset_nats=model.grid_nats()
        )
    forms = {form: e.record() for form, e in model.evaluate_third_terms(data, command.seed).items()}
    latents = model.latents(data, command.seed)
    if command.json:
        extra: dict[str, Any] = {"three_estimates": three} if three else {}
        extra |= {"latents": [level.record() for level in latents]} if latents else {}
        extra |= {"third_term": forms} if forms else {}
        print(json.dumps({**result.record(), **extra}))
        return 0
    print(f"{result}   {error_words(result)}")
    print(
        f"{result.nats:.2f} ± {spread_words(result.nats_standard_error)} nats, {result.bits_per_example:.1f} bits an example"
    )
    print(
        f"{result.num_images:,} examples of {dataset.name}, {result.network_evaluations:,} network calls; {result.estimator}"
    )
    for name, value in result.terms.items():
        print(f"  {name:<16}{value:10.4f} ± {spread_words(result.term_errors[name])} bits/dim")
    for part in result.levels[1:]:
        print(f"    {part.name:<14}{part.bits_per_dim:10.4f} ± {spread_words(part.standard_error)}{_range(part)}")
    for line in latent_lines(latents):
        print(line)
    for line in three_lines(three) if three else []:
        print(line)
    for line in third_term_lines(forms):
        print(line)
    return 0


def _range(part: Part) -> str:
    return f"   log SNR {part.log_snr[0]:+.1f} to {part.log_snr[1]:+.1f}" if part.log_snr else ""
