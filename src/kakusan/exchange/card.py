"""Model card in Markdown: description of a shared model, its training data, its measurements and its limits."""

from __future__ import annotations

from typing import Any

from kakusan.console import quoted
from kakusan.run.source import ModelSource

LIMITS = (
    "Samples resemble the training data, with its gaps and biases.",
    "A bound holds for held-out data of the same kind, and says nothing about other data.",
)
FRONT = "---\nlibrary_name: kakusan\nlicense: unknown\ntags:\n- kakusan\n---\n"


def card_of(source: ModelSource) -> str:
    """Return the card of a run, or the card in a file. A file without one gets a card with its facts.

    The owner should fill in the line `license: unknown`. The format is that of model cards on the Hugging Face Hub.
    """
    if source.run is None:
        stored = source.read().card
        if stored:
            return stored
    facts = source.facts
    lines = [f"# {facts.recipe.name}", "", f"{facts.recipe.summary.rstrip('.')}.", ""]
    for title, rows in (
        ("Facts", [f"{label}: {value}" for label, value in plain_facts(source)]),
        ("Measured", _measured(source)),
        ("Settings", [f"{name}: {value}" for name, value in vars(facts.recipe.model).items()]),
        ("Limits", list(LIMITS)),
    ):
        lines += [f"## {title}", "", *(f"- {row}" for row in rows), ""]
    name = f"{source.name}.safetensors"
    lines += ["## Use", "", "```sh", "pip install kakusan", f"kakusan sample {quoted(name)} -n 64", "```", ""]
    return FRONT + "\n".join(lines)


def plain_facts(source: ModelSource) -> list[tuple[str, str]]:
    """Return facts of a model as pairs (label, value). They contain no path."""
    facts = source.facts
    rows = [
        ("recipe", facts.recipe.name),
        ("data", f"{facts.data.name}, {facts.data.kind} of shape {tuple(facts.event_shape)}"),
        ("SHA-256 of the data", facts.data.digest),
        ("made with", ", ".join(f"{name} {version}" for name, version in facts.versions.items())),
    ]
    if source.run is not None:
        data: dict[str, Any] = source.run.read("data.json")
        rows.insert(2, ("examples", f"{data['train']:,} for training, {data['held_out']:,} held out"))
        if source.run.finished:
            summary = source.run.read("summary.json")
            rows.insert(3, ("bound", summary["lines"][0]))
            rows += [("steps", f"{summary['steps']:,}"), ("SHA-256 of the weights", summary["weights_sha256"])]
    return rows


def _measured(source: ModelSource) -> list[str]:
    if source.run is None or not source.run.finished:
        return ["nothing"]
    return [line.strip() for line in source.run.read("summary.json")["lines"]]
