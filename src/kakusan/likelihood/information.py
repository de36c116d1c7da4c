"""Bits that each latent of a VAE or a hierarchical VAE carries about the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kakusan.chain import LatentChain
from kakusan.checks import check_count
from kakusan.devices import precise
from kakusan.distributions import Normal, normal_kl_each
from kakusan.likelihood.chains import CHUNK, GetBatch
from kakusan.noise import stream
from kakusan.units import bits_per_dim

COLLAPSED = 0.01  # nats; a latent below this carries practically no information
LARGEST = 2000  # largest number of examples used
NAMED = 8  # largest number of collapsed latents listed in a line; --json lists them all


@dataclass(frozen=True)
class LatentLevel:
    """Bits of one level of latents: each latent's share of that level's KL term, averaged over the data.

    Attributes:
        name: Name of the level, e.g. "level 1".
        bits: Bits of each latent, by position.
        collapsed: Positions of the latents that carry less than 0.01 nats.
    """

    name: str
    bits: list[float]
    collapsed: list[int]

    @property
    def total(self) -> float:
        """Bits of all latents of the level."""
        return sum(self.bits)

    def record(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"name": self.name, "bits": self.bits, "total": self.total, "collapsed": self.collapsed}


@torch.no_grad()
def of_latents(chain: LatentChain, batch: GetBatch, num: int, seed: int = 0) -> list[LatentLevel]:
    """Mean of log q(z_l | z_{l-1}) - log p(z_l | z_{l+1}) for each latent, over at most 2,000 examples.

    At the top level the mean over z_l has a closed form. At lower levels z_{l+1} depends on z_l, so the drawn z_l is
    used (S18).
    """
    check_count(num)
    num = min(num, LARGEST)
    sums: list[Tensor | float] = [0.0] * chain.depth
    for rows in torch.arange(num).split(CHUNK):
        below, drawn, posteriors = batch(rows), [], []
        generator = stream(seed, "information", int(rows[0]))
        for t in range(1, chain.depth + 1):
            q = chain.encode(below, t)
            assert isinstance(q, Normal), "the encoders of a VAE are Gaussian"
            posteriors.append(q)
            below = q.sample(generator)
            drawn.append(below)
        for level, (q, z) in enumerate(zip(posteriors, drawn)):
            if level == chain.depth - 1:
                prior = chain.prior()
                assert isinstance(prior, Normal), "the prior of a VAE is Gaussian"
                cost = normal_kl_each(q, prior)
            else:
                p = chain.decode(drawn[level + 1], level + 2)
                assert isinstance(p, Normal), "latents are Gaussian given the level above"
                cost = _log_ratio(q, p, z)
            sums[level] = sums[level] + precise(cost.flatten(1)).sum(0).cpu()
    levels = []
    for level, total in enumerate(sums, start=1):
        assert isinstance(total, Tensor), "there is at least one example"
        nats = total / num
        collapsed = (nats.abs() < COLLAPSED).nonzero()[:, 0].tolist()
        levels.append(LatentLevel(f"level {level}", bits_per_dim(-nats, 1).tolist(), collapsed))
    return levels


def _log_ratio(q: Normal, p: Normal, z: Tensor) -> Tensor:
    """Compute log q - log p of each latent at the drawn z, in the shape of z; exactly 0 for equal distributions."""
    from_q, from_p = (z - q.mean).square() * (-q.log_var).exp(), (z - p.mean).square() * (-p.log_var).exp()
    return 0.5 * (p.log_var - q.log_var + from_p - from_q).expand_as(z)


def latent_line(level: dict[str, Any]) -> str:
    """One line of text about a recorded level."""
    collapsed, bits = level["collapsed"], level["bits"]
    idle = f" ({', '.join(map(str, collapsed))})" if 0 < len(collapsed) <= NAMED else ""
    return (
        f"  {level['name']}: {level['total']:.1f} bits in {len(bits)} latents, {max(bits):.2f} in the largest, "
        f"{len(collapsed)} collapsed{idle}"
    )
