"""Lines about the clusters of a run, before an hour is spent on them."""

from __future__ import annotations

from kakusan.models.clusters import FEWEST, Clusters


def cluster_lines(clusters: Clusters | None) -> list[str]:
    """How many kinds of examples were found, and why not as many as were asked for."""
    if clusters is None:
        return []
    found, asked = clusters.num_found, len(clusters.share)
    few = f", of {asked:,} asked for: there must be {FEWEST} examples for each, all of them not alike"
    return [f"clusters: {found:,} found" + (few if found < asked else "")]
