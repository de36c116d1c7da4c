"""What a person should know about data before an hour is spent on them."""

from __future__ import annotations

from kakusan.data.dataset import Dataset
from kakusan.models.clusters import EXAMPLES_PER_CLUSTER, Clusters

FEW = 100  # examples to train on


def cluster_lines(clusters: Clusters | None) -> list[str]:
    """How many clusters were found, and why not as many as asked for."""
    if clusters is None:
        return []
    found, asked = clusters.num_found, clusters.num
    if found == asked:
        return [f"found {found:,} clusters"]
    return [
        f"found {found:,} clusters instead of {asked:,}: a cluster needs at least {EXAMPLES_PER_CLUSTER} distinct images"
    ]


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
