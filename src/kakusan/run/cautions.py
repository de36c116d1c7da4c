"""What a person should know about data before an hour is spent on them."""

from __future__ import annotations

from kakusan.data.dataset import Dataset
from kakusan.models.clusters import FEWEST, Clusters

FEW = 100  # examples to train on


def cluster_lines(clusters: Clusters | None) -> list[str]:
    """How many kinds of examples were found, and why not as many as were asked for."""
    if clusters is None:
        return []
    found, asked = clusters.num_found, len(clusters.share)
    few = f", of {asked:,} asked for: there must be {FEWEST} examples for each, all of them not alike"
    return [f"clusters: {found:,} found" + (few if found < asked else "")]


def cautions(dataset: Dataset) -> list[str]:
    """A line for each thing that makes training on these data say little; none for ordinary data."""
    data, name = dataset.train, dataset.name
    lines = []
    if bool((data == data.reshape(-1)[0]).all()):
        lines.append(f"caution: {name} hold one value only, {data.reshape(-1)[0].item():g}: there is nothing to learn")
    elif len(data) > 1 and bool((data == data[:1]).all()):
        lines.append(f"caution: all examples to train on in {name} are equal: a model can only learn this one by heart")
    if len(data) < FEW:
        alone, them = ("1 example", "it") if len(data) == 1 else (f"{len(data)} examples", "them")
        lines.append(
            f"caution: {alone} to train on: a model is likely to learn {them} by heart; a few thousand are usual"
        )
    return lines
