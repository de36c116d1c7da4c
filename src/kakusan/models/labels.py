"""Labels as the classes of a mixture, with a null class for guidance and propagation of few labels over clusters.

The bound of an unlabeled example sums over its class with a distribution q(k | x). It is a bound for any q(k | x):

    ELBO(x) = sum_k q(k | x) [log p(k) - log q(k | x) + ELBO(x | k)] <= log p(x).

Here q(k | x) is a table with one row per k-means cluster. Labels propagate from the clusters of labeled examples to
neighboring clusters, so a few labels determine many rows.

Sources: Ho and Salimans 2022, https://arxiv.org/abs/2207.12598, for the null class; Zhou et al. 2004, "Learning with
Local and Global Consistency", for label propagation; Kingma et al. 2014, https://arxiv.org/abs/1406.5298, for bounds
that sum over missing labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kakusan.devices import precise_device
from kakusan.errors import InputError
from kakusan.models.clusters import UNLABELED, Classes, Clusters, draw_classes, where_unlabeled
from kakusan.noise import Randomness, rand

NEIGHBORS = 4  # nearest clusters to which a label propagates directly
NEIGHBOR_SHARE = 0.9  # share of a cluster's label that comes from its neighbors
SHARPNESS = 2  # power of the propagated shares; this value makes them approximately calibrated (docs/log.md)
FLOOR = 1e-3  # smallest probability of a class, relative to the likeliest


class Labels(Classes):
    """K labeled classes, with a null class of index K for label dropout, and q(k | x) of unlabeled examples.

    Args:
        num: Number of classes K.
        event_shape: Shape of an example.
        dropout: Probability in [0, 1) that training replaces a class by the null class; 0 for no null class.
        clusters: Number of k-means clusters for label propagation; 0 if every training example is labeled.
    """

    named: Tensor

    def __init__(self, num: int, event_shape: Sequence[int], dropout: float = 0.0, clusters: int = 0):
        if num < 2:
            raise InputError(f"labels need at least two classes, got {num}; train without labels instead")
        if not 0 <= dropout < 1:
            raise InputError(f"label dropout must lie in [0, 1), got {dropout}; 0.1 is usual, 0 turns it off")
        super().__init__([1 / num] * num)
        self.dropout = dropout
        self.clusters = Clusters(clusters, event_shape) if clusters else None
        if clusters:
            self.register_buffer("named", torch.full((clusters, num), 1 / num, dtype=torch.float64))

    @property
    def labeled(self) -> bool:
        """True, because the classes are labels."""
        return True

    @property
    def null(self) -> int | None:
        """Index of the null class, K; None without label dropout."""
        return self.num if self.dropout else None

    @property
    def holes(self) -> bool:
        """True if training examples may be unlabeled."""
        return self.clusters is not None

    def probs_of(self, x: Tensor) -> Tensor | None:
        """q(k | x) by the cluster of x, float64 (b, K); None without clusters."""
        return None if self.clusters is None else self.named[self.clusters.of(x).to(self.named.device)]

    def completed(self, x: Tensor, k: Tensor, randomness: Randomness = None) -> Tensor:
        """Return class indices int64 (b,) in which each unlabeled example has a class drawn from q(k | x)."""
        probs = self.probs_of(x)
        return k if probs is None else draw_classes(where_unlabeled(k, probs), randomness).to(k.device)

    def for_training(self, k: Tensor, randomness: Randomness = None) -> Tensor:
        """Replace each class index by the null class with probability `dropout`."""
        if self.null is None:
            return k
        dropped = rand((len(k), 1), randomness, torch.float64, precise_device(k.device))[:, 0] < self.dropout
        return k.masked_fill(dropped.to(k.device), self.null)

    @torch.no_grad()
    def observe(self, k: Tensor, features: Tensor | None = None) -> None:
        """Learn p(k), and with clusters q(k | x), from the training examples.

        p(k) is the mean of q(k | x) over all of them, which maximizes the bound. For a labeled example, q(k | x) is 1 for
        its label.

        Args:
            k: Class of each training example, int64 (n,); -1 for unlabeled.
            features: Features from `coarse`, float64 (n, f); needed with clusters.

        Raises:
            InputError: If no example is labeled, or one is unlabeled and there are no clusters.
        """
        labeled = k != UNLABELED
        if not labeled.any() or (self.clusters is None and not labeled.all()):
            raise InputError(
                f"{int(labeled.sum()):,} of {len(k):,} examples are labeled; labels need at least one example, and "
                "unlabeled examples need clusters"
            )
        if self.clusters is None:
            self.share.copy_(k.bincount(minlength=self.num).double() / len(k))
            return
        assert features is not None, "documented"
        self.clusters.find(features)
        near = self.clusters.of_features(features)
        counts = torch.zeros_like(self.named).index_put_(
            (near[labeled], k[labeled]), torch.ones((), dtype=torch.float64, device=k.device), accumulate=True
        )
        self.named.copy_(propagate(counts, self.clusters.centres, self.clusters.share > 0))
        self.share.copy_(where_unlabeled(k, self.named[near]).mean(0))

    def check(self, source: object) -> None:
        """Raise an InputError that names `source` unless p(k) and every row of q(k | x) are probabilities."""
        super().check(source)
        clusters: Clusters | None = getattr(self, "clusters", None)  # not yet set while the base class is initialized
        if clusters is not None:
            clusters.check(source)
            total = self.named.sum(1)
            if not (self.named >= 0).all() or not ((total - 1).abs() < 1e-6).all():
                raise InputError(f"{source}: each cluster's class probabilities must be at least 0 and sum to 1")


def propagate(counts: Tensor, centroids: Tensor, found: Tensor) -> Tensor:
    """Propagate the labels of a few clusters to all: (1 - a S)^-1 counts, normalized and sharpened.

    S is the normalized graph of nearest centroids with Gaussian weights (Zhou et al. 2004, equation 4). A cluster that
    no label reaches gets the overall shares of the labels.

    Args:
        counts: Number of labels of each class in each cluster, float64 (clusters, K).
        centroids: Centroids (clusters, f).
        found: True for clusters that were found, bool (clusters,).

    Returns:
        Class probabilities of each cluster, float64 (clusters, K).
    """
    average = (counts.sum(0) / counts.sum()).expand_as(counts).clone()
    own, places = counts[found], centroids[found]
    near = min(NEIGHBORS, len(own) - 1)
    if near > 0:
        squares, place = torch.cdist(places, places).square().topk(near + 1, largest=False)
        width = squares[:, -1:].sqrt().clamp(min=torch.finfo(torch.float64).tiny)
        weights = torch.zeros(len(own), len(own), dtype=torch.float64, device=counts.device)
        weights.scatter_(1, place, torch.exp(-squares / (width * width[place, 0])))
        weights.fill_diagonal_(0)
        weights = torch.maximum(weights, weights.T)
        degree = weights.sum(1).clamp(min=torch.finfo(torch.float64).tiny).rsqrt()
        identity = torch.eye(len(own), dtype=torch.float64, device=counts.device)
        own = torch.linalg.solve(identity - NEIGHBOR_SHARE * degree[:, None] * weights * degree, own).clamp(min=0)
    largest = own.amax(1, keepdim=True)
    sharp = (own / largest.clamp(min=torch.finfo(torch.float64).tiny)) ** SHARPNESS + FLOOR
    rows = sharp / sharp.sum(1, keepdim=True)
    average[found] = torch.where(largest > 0, rows, average[found])
    return average
