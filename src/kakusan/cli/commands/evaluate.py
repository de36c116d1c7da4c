"""kakusan evaluate: bits per dimension by term with standard errors; with --samples, measures of samples."""

from __future__ import annotations

import json

from kakusan.cli.arguments import Evaluate
from kakusan.console import say
from kakusan.run.evaluate import evaluate


def main(command: Evaluate) -> int:
    """Evaluate and print the result; --json prints one object and nothing else on stdout."""
    found = evaluate(
        command.run,
        split=command.split,
        limit=command.limit,
        data=command.data,
        repeats=command.repeats,
        importance=command.importance,
        estimators=command.estimators,
        samples=command.samples,
        features=command.features,
        seed=command.seed,
        device=command.device,
    )
    if command.json:
        say(json.dumps(found.record()))
    else:
        say(*found.lines())
    return 0
