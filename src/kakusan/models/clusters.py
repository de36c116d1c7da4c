"""A latent above z_T: which cluster an example is of. One chain then is many, and each has less to leave open.

p(x) = sum_k p(k) p(x | k), where all chains p(x | k) share one network that is told k. The encoder is fixed, as that of the
noise is: q(k | x) is certain of the cluster whose centre lies nearest to x. So

    log p(x) >= log p(k(x)) + ELBO(x | k(x)),

whose first term is minus the KL of q(k | x) and p(k). The clusters are found in the data before training, by
k-means; nobody names them.

Sources: Hu et al. 2023, "Self-Guided Diffusion Models", and Bao et al. 2022, "Why Are Conditional Generative Models Better
Than Unconditional Ones?", for clusters in place of labels; Lloyd 1982, "Least squares quantization in PCM".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kakusan.errors import InputError
from kakusan.noise import Randomness, rand, stream

SIDE = 16  # of the coarse picture that clusters are told by, at most: detail would cost time and say little
FEWEST = 50  # examples a cluster on average: of fewer the network would be told which example it is, not what kind
LEARNED_FROM = 128  # examples a cluster that centres are sought among
ROUNDS = 20  # of the search: centres hardly move any more
AT_ONCE = 10_000  # examples whose distances from all centres are held at a time
SLACK = 1e-6  # of the sum of the shares, for those that were rounded


class Clusters(nn.Module):
    """Centres, and the share of the data that lies nearest to each; untrained, everything is of the first.

    In float64, whatever the network computes in: an example is of the same cluster everywhere.

    Args:
        num: K, how many at most.
        event_shape: Of an example; pictures are (C, H, W).
    """

    centres: Tensor
    share: Tensor

    def __init__(self, num: int, event_shape: Sequence[int]):
        super().__init__()
        if num < 1:
            raise InputError(f"there must be at least one cluster, got {num}; a model without any is given none")
        self.event_shape = tuple(event_shape)
        features = coarse(torch.zeros(1, *self.event_shape)).shape[1]
        self.register_buffer("centres", torch.zeros(num, features, dtype=torch.float64))
        self.register_buffer("share", torch.zeros(num, dtype=torch.float64))
        self.share[:1] = 1.0

    @torch.no_grad()
    def find(self, features: Tensor) -> None:
        """Look for the clusters of examples, told by what is `coarse` of them (n, features); the same for the same ones.

        As many as have 50 examples each on average, and not more than K; the others' share is 0.
        """
        if features.dim() != 2 or features.shape[1] != self.centres.shape[1] or not features.isfinite().all():
            raise InputError(
                f"clusters are looked for in finite numbers (n, {self.centres.shape[1]}), got {tuple(features.shape)}; "
                "clusters.find(coarse(x)) with coarse from kakusan.models.clusters"
            )
        num = max(1, min(len(self.share), len(features) // FEWEST))
        order = torch.randperm(len(features), generator=stream("clusters"))
        seen = features[order[: num * LEARNED_FROM]]
        centres, everywhere = seen[:num].clone(), torch.ones(num, dtype=torch.bool)
        for _ in range(ROUNDS):
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
        """How many of them an example can be of."""
        return int((self.share > 0).sum())

    def pictures(self) -> Tensor:
        """The centres of those that were found, the most common first, as coarse pictures (n, C, H, W) of the event's size."""
        order = self.share.argsort(descending=True)[: self.num_found]
        channels, *size = self.event_shape
        grid = [math.ceil(side / factor) for side, factor in zip(size, _factors(size))]
        return F.interpolate(self.centres[order].view(-1, channels, *grid), size, mode="bilinear")

    def of(self, x: Tensor) -> Tensor:
        """q(k | x): the cluster of each example (b, *event), int64 (b,)."""
        return _nearest(coarse(x), self.centres.double(), self.share > 0)

    def draw(self, n: int, randomness: Randomness = None) -> Tensor:
        """k ~ p(k), int64 (n,)."""
        uniform = rand((n, 1), randomness, torch.float64, self.share.device)[:, 0]
        ends = self.share.double().cumsum(0)
        return torch.searchsorted(ends, uniform * ends[-1], right=True)  # the product is rounded to below the end

    def check(self, source: object) -> None:
        """InputError, which names their source, unless the shares are probabilities: of a file from elsewhere."""
        total = self.share.sum().item()
        if not (self.share >= 0).all() or not abs(total - 1) < SLACK or not self.centres.isfinite().all():
            raise InputError(
                f"{source}: the shares of its clusters must be 0 or more and add up to 1, got {total:g} in all"
            )

    def check_named(self, cluster: Tensor) -> None:
        """InputError unless this names clusters, int64 (b,); numbers on a device are not asked."""
        if cluster.dtype != torch.int64 or cluster.dim() != 1:
            raise InputError(f"clusters are named by int64 (b,), got {cluster.dtype} {tuple(cluster.shape)}")
        if cluster.device.type == "cpu" and len(cluster):
            least, most = (int(end) for end in cluster.aminmax())
            if not 0 <= least <= most < len(self.share):
                raise InputError(f"clusters lie in 0..{len(self.share) - 1}, got {least if least < 0 else most}")

    def log_prob(self, k: Tensor) -> Tensor:
        """log p(k) in nats, float64 (b,)."""
        return self.share.log()[k]


def coarse(x: Tensor) -> Tensor:
    """What clusters are told by: examples (b, *event) as float64 (b, features), pictures shrunk to 16 x 16 at most."""
    if x.dim() == 4:
        factors = _factors(x.shape[2:])
        x = F.avg_pool2d(x.double(), factors, ceil_mode=True) if max(factors) > 1 else x
    return x.flatten(1).double()


def _factors(size: Sequence[int]) -> list[int]:
    """By how much each side of a picture is shrunk."""
    return [math.ceil(side / SIDE) for side in size]


def _nearest(features: Tensor, centres: Tensor, among: Tensor) -> Tensor:
    """Which of the centres (K, f) that are among these (K,) each of the features (n, f) lies nearest to, (n,)."""
    half_squares = (0.5 * centres.square().sum(1)).masked_fill(~among, math.inf)
    return torch.cat([(part @ centres.T - half_squares).argmax(1) for part in features.split(AT_ONCE)])
