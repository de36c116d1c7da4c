"""Classes of a mixture: k-means clusters of the data, or classes with given probabilities.

Sources: Hu et al. 2023, "Self-Guided Diffusion Models", https://arxiv.org/abs/2210.06462, and Bao et al. 2022,
"Why Are Conditional Generative Models Better Than Unconditional Ones?", https://arxiv.org/abs/2212.00362, for clusters in
place of labels; Lloyd 1982, "Least squares quantization in PCM", for k-means.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kakusan.checks import numbers
from kakusan.console import counted
from kakusan.devices import precise, precise_device
from kakusan.errors import InputError
from kakusan.noise import Randomness, rand, stream
from kakusan.progress import progress

COARSE_SIDE = 16  # largest side in pixels of the features for k-means; more detail would cost time and add little
EXAMPLES_PER_CLUSTER = 50  # smallest average cluster size; a smaller cluster would nearly identify its examples
LEARNED_FROM = 128  # examples per cluster that k-means uses
ROUNDS = 20  # iterations of k-means, after which centroids hardly move
EXAMPLES_AT_ONCE = 10_000  # examples whose distances to all centroids are computed at a time
SLACK = 1e-6  # allowed rounding error of the sum of the probabilities
UNLABELED = -1  # class index of an example without a label; for training only


class Classes(nn.Module):
    """K classes with probabilities p(k), and optionally a function that gives the class of x.

    Args:
        probs: p(k), shape (K,), sums to 1.
        assign: Function from x (b, *event) to class indices, int64 (b,). None if classes are always given, or inferred
            from bounds.
    """

    share: Tensor

    def __init__(self, probs: Tensor | Sequence[float], assign: Callable[[Tensor], Tensor] | None = None):
        super().__init__()
        self.register_buffer("share", numbers(probs, "probs", torch.float64))
        self.assign = assign
        if self.share.dim() != 1:
            raise InputError(f"probs must be a list of K probabilities, got shape {tuple(self.share.shape)}")
        if not self.share.is_meta:  # a blueprint holds no values
            self.check("probs")

    def _apply(self, fn: Callable, recurse: bool = True) -> Classes:
        """Move to a device and keep float64, or stay on the CPU if the device has none.

        As a result, an example belongs to the same class in every precision.
        """
        where = fn(torch.zeros(())).device
        if precise_device(where) != where:
            return self
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, old in before.items():
            new = self._buffers[name]
            if old is not None and new is not None and new.dtype != old.dtype:
                self._buffers[name] = old.to(new.device)
        return self

    @property
    def num(self) -> int:
        """Number of classes K."""
        return len(self.share)

    @property
    def labeled(self) -> bool:
        """True if the classes are labels, which come with the examples and are not a function of x."""
        return False

    @property
    def null(self) -> int | None:
        """Index of the null class, which stands for an unknown class in classifier-free guidance; None without one."""
        return None

    @property
    def holes(self) -> bool:
        """True if training examples may be unlabeled."""
        return self.assign is None

    def of(self, x: Tensor) -> Tensor | None:
        """Class of each example, int64 (b,); None if it is not a function of x."""
        return None if self.assign is None else self.assign(x)

    def probs_of(self, x: Tensor) -> Tensor | None:
        """q(k | x) of unlabeled examples in training, float64 (b, K); None for responsibilities from the bounds."""
        return None

    def completed(self, x: Tensor, k: Tensor, randomness: Randomness = None) -> Tensor:
        """Return class indices in which unlabeled examples have a class, for a loss with one class per example."""
        return k

    def for_training(self, k: Tensor, randomness: Randomness = None) -> Tensor:
        """Return class indices for a training step; `Labels` replaces some by the null class."""
        return k

    def certain(self, x: Tensor) -> Tensor:
        """Class of each example, int64 (b,); InputError if it is not a function of x."""
        k = self.of(x)
        if k is None:
            raise InputError(
                "this estimator needs classes that are a function of x; pass assign= to the mixture, or use kakusan.elbo"
            )
        return k

    def draw(self, n: int, randomness: Randomness = None) -> Tensor:
        """Draw n class indices k ~ p(k), int64 (n,)."""
        return draw_classes(self.share.double().expand(n, -1), randomness)

    def log_prob(self, k: Tensor) -> Tensor:
        """log p(k) in nats, float64 (b,)."""
        return self.share.double().log()[k.to(self.share.device)]

    def validate(self, k: Tensor) -> None:
        """Raise an InputError unless k are class indices, int64 (b,) in 0..K-1; values on a GPU are not checked."""
        if not isinstance(k, Tensor) or k.dtype != torch.int64 or k.dim() != 1:
            found = f"{k.dtype} {tuple(k.shape)}" if isinstance(k, Tensor) else type(k).__name__
            raise InputError(f"class indices must be int64 of shape (b,), got {found}")
        if k.device.type == "cpu" and len(k):
            least, most = (int(end) for end in k.aminmax())
            if not 0 <= least <= most < self.num:
                raise InputError(f"class indices lie in 0..{self.num - 1}, got {least if least < 0 else most}")

    def images(self) -> Tensor:
        """Images that represent the classes, the most common first, (n, C, H, W); by default none."""
        return torch.zeros(0)

    def lines(self) -> list[str]:
        """Messages about classes that were found in the training data, one line each; by default none."""
        return []

    def check_found(self) -> None:
        """Raise an InputError if classes must first be found in the training data; by default they need not."""

    def check(self, source: object) -> None:
        """Raise an InputError that names `source`, e.g. a file, unless the class shares are probabilities."""
        total = self.share.sum().item()
        if not self.num or not (self.share >= 0).all() or not abs(total - 1) < SLACK:
            raise InputError(f"{source}: class probabilities must be at least 0 and sum to 1, got a sum of {total:g}")


class Clusters(Classes):
    """k-means clusters: centroids, and the share of the data in each; before `find` all data belong to the first.

    Everything is float64, in whatever precision the network computes. So an example always belongs to the same cluster.

    Args:
        num: K, the largest number of clusters.
        event_shape: Shape of an example; images are (C, H, W).
    """

    centres: Tensor  # the name in model files
    holes = False

    def __init__(self, num: int, event_shape: Sequence[int]):
        if num < 1:
            raise InputError(f"there must be at least one cluster, got {num}; leave clusters out instead")
        probs = torch.zeros(num, dtype=torch.float64)
        probs[:1] = 1.0
        super().__init__(probs)
        self.event_shape = tuple(event_shape)
        self.register_buffer("centres", torch.zeros(num, num_features(event_shape), dtype=torch.float64))

    @torch.no_grad()
    def find(self, features: Tensor) -> None:
        """Run k-means on features (n, f) from `coarse`; the result is a function of the features.

        It looks for at most K clusters, and at most one per 50 examples. The remaining clusters have the share 0.
        """
        features, width = numbers(features, "features", torch.float64), self.centres.shape[1]
        if features.dim() != 2 or features.shape[1] != width or not len(features) or not features.isfinite().all():
            raise InputError(
                f"k-means needs finite features (n, {width}), n > 0, got {tuple(features.shape)}; "
                "call clusters.find(coarse(x)) with coarse from kakusan.models.clusters"
            )
        num = max(1, min(self.num, len(features) // EXAMPLES_PER_CLUSTER))
        order = torch.randperm(len(features), generator=stream("clusters"))
        seen = features[order[: num * LEARNED_FROM]]
        centres, everywhere = seen[:num].clone(), torch.ones(num, dtype=torch.bool)
        for _ in progress(range(ROUNDS), "finding clusters"):
            nearest = _nearest(seen, centres, everywhere)
            count = nearest.bincount(minlength=num)[:, None]
            total = torch.zeros_like(centres).index_add_(0, nearest, seen)
            centres = torch.where(count > 0, total / count.clamp(min=1), centres)
        counts = _nearest(features, centres, everywhere).bincount(minlength=num)
        self.centres.zero_()
        self.share.zero_()
        self.centres[:num] = centres
        self.share[:num] = counts.double() / len(features)

    @property
    def num_found(self) -> int:
        """Number of clusters with a positive share."""
        return int((self.share > 0).sum())

    def images(self) -> Tensor:
        """Centroids of the found clusters, the most common first, as images (n, C, H, W) of the event's size."""
        order = self.share.argsort(descending=True)[: self.num_found]
        channels, *size = self.event_shape
        grid = [math.ceil(side / factor) for side, factor in zip(size, _factors(size))]
        return F.interpolate(self.centres[order].view(-1, channels, *grid), size, mode="bilinear")

    def lines(self) -> list[str]:
        """Number of clusters found, and the reason if it is below the number requested."""
        found = f"found {counted(self.num_found, 'cluster')}"
        if self.num_found == self.num:
            return [found]
        reason = f"a cluster needs at least {EXAMPLES_PER_CLUSTER} distinct images"
        return [f"{found} instead of {self.num:,}: {reason}"]

    def check_found(self) -> None:
        """Raise an InputError before `find`."""
        if self.num > 1 and not self.centres.any():
            raise InputError(
                "the clusters have no centroids yet; find them first: chain.classes.find(coarse(x)) with coarse "
                "from kakusan.models.clusters"
            )

    def of(self, x: Tensor) -> Tensor:
        """Index of the nearest cluster of each example (b, *event), int64 (b,)."""
        return self.of_features(coarse(x)).to(x.device)

    def of_features(self, features: Tensor) -> Tensor:
        """Index of the nearest cluster of each row of `coarse(x)`, int64 (b,)."""
        return _nearest(features, self.centres.double(), self.share > 0)

    def check(self, source: object) -> None:
        """Raise an InputError that names `source` unless shares are probabilities and centroids are finite."""
        super().check(source)
        if "centres" in self._buffers and not self.centres.isfinite().all():
            raise InputError(f"{source}: cluster centroids must be finite")


def where_unlabeled(k: Tensor, probs: Tensor) -> Tensor:
    """One-hot rows for labeled examples, and rows of `probs` (b, K) for unlabeled ones; float64 (b, K)."""
    probs = precise(probs)
    k = k.to(probs.device)
    known = F.one_hot(k.clamp(min=0), probs.shape[1]).double()
    return torch.where((k == UNLABELED)[:, None], probs, known)


def draw_classes(probs: Tensor, randomness: Randomness = None) -> Tensor:
    """Draw one class index for each row of probabilities, float64 (n, K); returns int64 (n,)."""
    ends = probs.cumsum(1)
    uniform = rand((len(ends), 1), randomness, torch.float64, ends.device)
    return torch.searchsorted(ends, uniform * ends[:, -1:], right=True)[
        :, 0
    ]  # the product rounds to less than the last end


def coarse(x: Tensor) -> Tensor:
    """Features for k-means, float64 (b, f), of examples (b, *event); images are averaged to at most 16 x 16."""
    x = x.to(precise_device(x.device))
    if x.dim() == 4:
        factors = _factors(x.shape[2:])
        x = F.avg_pool2d(x.double(), factors, ceil_mode=True) if max(factors) > 1 else x
    return x.flatten(1).double()


def num_features(event_shape: Sequence[int]) -> int:
    """Number of features that `coarse` gives for an example of this shape.

    Computed from the shape, because pooling on the meta device makes torch import its compiler.
    """
    if len(event_shape) != 3:
        return math.prod(event_shape)
    sides = event_shape[1:]
    return event_shape[0] * math.prod(math.ceil(side / factor) for side, factor in zip(sides, _factors(sides)))


def _factors(size: Sequence[int]) -> list[int]:
    return [math.ceil(side / COARSE_SIDE) for side in size]


def _nearest(features: Tensor, centres: Tensor, among: Tensor) -> Tensor:
    """Index of the nearest centroid of each row of features (n, f); only centroids with a true `among` (K,) count."""
    half_squares = (0.5 * centres.square().sum(1)).masked_fill(~among, math.inf)
    return torch.cat([(part @ centres.T - half_squares).argmax(1) for part in features.split(EXAMPLES_AT_ONCE)])
