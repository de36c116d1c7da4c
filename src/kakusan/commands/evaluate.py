"""kakusan evaluate: bits per dimension with a standard error, by term."""

from __future__ import annotations

import json

from kakusan.cli import Evaluate
from kakusan.commands.say import tell
from kakusan.commands.summary import third_term_lines, three_lines
from kakusan.data.open import open_data
from kakusan.diffusion import Diffusion
from kakusan.errors import InputError
from kakusan.likelihood import three_estimates
from kakusan.model import load


def main(command: Evaluate) -> int:
    """Evaluate and print; with --json one object alone on stdout."""
    if command.limit is not None and command.limit < 1:
        raise InputError(f"--limit must be at least 1, got {command.limit}")
    model = load(command.run, command.device)
    dataset = open_data(command.data or model.recipe.data)
    model.check_data(dataset)
    data = (dataset.test if command.split == "test" else dataset.train)[: command.limit]
    result = model.evaluate(data, command.seed, command.importance)
    three = None
    if isinstance(model.chain, Diffusion):
        tell("estimating the same bound from paths, pairs and single latents")
        three = three_estimates(
            model.chain, model.batches(data), len(data), command.seed, offset_nats=model.grid_nats()
        )
    forms = {form: e.record() for form, e in model.evaluate_third_terms(data, command.seed).items()}
    if command.json:
        extra = {"three_estimates": three} if three else {}
        extra |= {"third_term": forms} if forms else {}
        print(json.dumps({**result.record(), **extra}))
        return 0
    print(f"{result}   ({result.nats:.2f} nats, {result.bits_per_example:.1f} bits an example)")
    print(
        f"{result.num_images:,} examples of {dataset.name}, {result.network_evaluations:,} network calls; {result.estimator}"
    )
    for name, value in result.terms.items():
        print(f"  {name:<16}{value:10.4f} bits/dim")
    for line in three_lines(three) if three else []:
        print(line)
    for line in third_term_lines(forms):
        print(line)
    return 0
