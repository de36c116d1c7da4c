"""kakusan evaluate: bits per dimension with a standard error, by term; and with --samples, measures of samples."""

from __future__ import annotations

import json

from kakusan.cli.arguments import Evaluate
from kakusan.errors import printable
from kakusan.run.evaluate import evaluate


def main(command: Evaluate) -> int:
    """Evaluate and print; with --json one object alone on stdout."""
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
        print(json.dumps(found.record()))
    else:
        print(*map(printable, found.lines()), sep="\n")
    return 0
