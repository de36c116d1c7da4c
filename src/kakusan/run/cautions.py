"""Messages about the clusters of a new run."""

from __future__ import annotations

from kakusan.models.clusters import EXAMPLES_PER_CLUSTER, Clusters


def cluster_lines(clusters: Clusters | None) -> list[str]:
    """Number of clusters found, and the reason if it is below the number requested."""
    if clusters is None:
        return []
    found, asked = clusters.num_found, clusters.num
    if found == asked:
        return [f"found {found:,} cluster{'s' if found != 1 else ''}"]
    return [
        f"found {found:,} cluster{'s' if found != 1 else ''} instead of {asked:,}: a cluster needs at least {EXAMPLES_PER_CLUSTER} distinct images"
    ]
