"""Control variates for the cost of a diffusion step: predict it without the network, exactly summable over the steps.

The bound of an example is a sum over T steps, of which one is asked. Any function g(x, t, eps) with a known sum over t
of its mean over eps may be taken out of the asked term and put back whole, without changing the mean; the better g
predicts the cost, the less is left to chance. Here g is a regression on what an example shows without a network (its
energy, its variation, the cost of a Wiener filter), fitted to the calls of *other* examples, so that nothing is fitted
to the noise that it is used on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from kakusan.likelihood.chains import CHUNK, GetBatch
from kakusan.likelihood.wiener import Wiener

FARTHEST = 5.0  # standard deviations of a feature
ENDS = 0.01  # share of all values that must lie at an end of the scale for it to be a wall, as black is for digits
RIDGE = 1.0  # calls' worth of trust that a group of steps behaves like all of them


def features(x: Tensor, kinds: list[Tensor]) -> Tensor:
    """What of an example foretells how hard it is to denoise, without the network; float64 (n, k).

    Level and energy, how many values are of each kind, and for pictures how much neighbours differ, to first and second
    order and from their surroundings: with MNIST the second order explains most of what images differ by
    (docs/log.md). x: (n, *event).
    """
    low, inner, _ = kinds
    axes = range(2, x.dim())
    first = [x.diff(dim=axis) for axis in axes]
    second = [step.diff(dim=axis) for axis in axes for step in first]
    maps = [x, x.square(), inner * x, inner * (1 - x.square()), *kinds]
    for change in (*first, *second):
        maps += [change.abs(), change.square()]
    if x.dim() == 4:
        above = _above_surroundings(x)
        border = low & (F.max_pool2d((~low).to(x.dtype), 3, 1, 1) > 0)
        maps += [border, above.abs(), above.square(), inner * above.abs(), inner * above.square()]
    return _means(maps)


def _means(maps: list[Tensor]) -> Tensor:
    """Each (n, *event), in double precision over the event: (n, len(maps))."""
    return torch.stack([values.flatten(1).double().mean(1) for values in maps], 1)


def _standardised(columns: Tensor) -> Tensor:
    """Mean 0, spread 1, and cut off: what one example alone has must not decide about it by extrapolation."""
    spread = columns.std(0)
    scaled = torch.where(spread > 1e-12, (columns - columns.mean(0)) / spread.clamp(min=1e-12), 0.0)
    return scaled.clamp(-FARTHEST, FARTHEST)


class Predictors:
    """u(x, t, eps) for all examples of a data set, and sums over t of their means: the columns of the regression.

    In units of the step's typical cost, known without the noise: a constant, features of the example, a slope over the
    group's steps; then the mean cost of a Wiener filter. Of mean 0 over the noise: what the very noise adds to the
    filter's cost, and how large, and how much upwards, it is on values at the low end of the scale, between, and at the
    high end, and on those above their surroundings. A network that knows that no value lies below the low end need not
    guess about what was pushed there, so the direction matters.
    """

    def __init__(
        self, wiener: Wiener, typical: Tensor, slope: Tensor, group: Tensor, num_groups: int, batch: GetBatch, num: int
    ):
        """typical: (T,), rough size of the cost of each step; slope: (T,), its place in its group; group: (T,).
        batch: Gives examples on the CPU."""
        chunks = torch.arange(num).split(CHUNK)
        self._walls = _walls(batch(part) for part in chunks)
        zero = torch.zeros(num_groups, dtype=torch.float64)
        self.wiener, self.typical, self.slope = wiener, typical, typical * slope
        self._typical_sums = zero.index_add(0, group, self.typical)
        self._slope_sums = zero.index_add(0, group, self.slope)
        plain, sums = [], []
        for part in chunks:
            x = batch(part)
            plain.append(features(x, self._kinds(x)))
            sums.append(wiener.summed(wiener.coordinates(x), group, num_groups))
        self._wiener_sums = torch.cat(sums)  # (N, groups)
        scaled = _standardised(torch.cat(plain))
        constant = torch.ones(num, 1, dtype=torch.float64)
        self.own = torch.cat([constant, scaled, _standardised(scaled.square())], 1)  # (N, k)

    def at(self, rows: Tensor, x: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """u of the examples x = batch(rows) at steps t with noise eps, (n, columns); all on the CPU."""
        y, typical = self.wiener.coordinates(x), self.typical[t - 1, None]
        mean = self.wiener.mean_cost(y, t)[:, None]
        noise = self.wiener.cost(y, eps, t)[:, None] - mean
        kinds = self._kinds(x)
        weighted = [(eps.square() - 1) * kind for kind in kinds] + [eps * kind for kind in kinds]
        weighted += [eps * x * kinds[1], eps * _above_surroundings(x)]
        centred = _means(weighted)
        return torch.cat([typical * self.own[rows], self.slope[t - 1, None], mean, noise, typical * centred], 1)

    def sums(self, rows: Tensor, coefficients: Tensor) -> Tensor:
        """Sum over the steps of each group of the mean of u . coefficients (groups, columns): (n, groups)."""
        known = self.own.shape[1]
        own = self.own[rows] @ coefficients[:, :known].T * self._typical_sums
        return own + self._slope_sums * coefficients[:, known] + self._wiener_sums[rows] * coefficients[:, known + 1]

    def _kinds(self, x: Tensor) -> list[Tensor]:
        low, high = (x == wall for wall in self._walls)
        return [low, ~(low | high), high]


def _walls(chunks: Iterable[Tensor]) -> tuple[float, float]:
    """Both ends of the values' scale; NaN, which nothing equals, for one at which few values lie."""
    least, most, at_least, at_most, number = math.inf, -math.inf, 0, 0, 0
    for x in chunks:
        low, high = x.min().item(), x.max().item()
        at_least = (at_least if least <= low else 0) + (int((x == low).sum()) if low <= least else 0)
        at_most = (at_most if most >= high else 0) + (int((x == high).sum()) if high >= most else 0)
        least, most, number = min(least, low), max(most, high), number + x.numel()
    return least if at_least > ENDS * number else math.nan, most if at_most > ENDS * number else math.nan


def _above_surroundings(x: Tensor) -> Tensor:
    """x less the mean of its surroundings, for pictures (n, C, H, W); 0 for other examples."""
    return x - F.avg_pool2d(x, 3, 1, 1) if x.dim() == 4 else torch.zeros_like(x)


@dataclass(frozen=True)
class Calls:
    """What the network was asked, and what came of it."""

    rows: Tensor  # (n,) examples
    t: Tensor  # (n,) steps
    prob: Tensor  # (n,) with which probability
    u: Tensor  # (n, columns) predictors
    cost: Tensor  # (n,) nats, less what no network changes of it


def fit(calls: Calls, group: Tensor, num_groups: int) -> Tensor:
    """Coefficients (groups, columns) that make (cost - u . coefficients) / prob small in the mean square.

    Ridge regression with coefficients for all steps and deviations from them for each group.
    """
    scale = (calls.cost / calls.prob).square().mean().sqrt()
    if not scale > 0:
        return torch.zeros(num_groups, calls.u.shape[1], dtype=torch.float64)
    target = calls.cost / calls.prob / scale
    shared = calls.u / calls.prob[:, None] / scale
    size = shared.square().mean(0).sqrt().clamp(min=1e-12)
    shared = shared / size
    width = shared.shape[1]
    # a group's deviations meet the shared coefficients and themselves alone: the system is filled block by block
    gram = torch.zeros(2 * [(1 + num_groups) * width], dtype=torch.float64)
    right = torch.zeros(len(gram), dtype=torch.float64)
    for k in range(num_groups):
        mine = group[calls.t - 1] == k
        own, squares = slice((1 + k) * width, (2 + k) * width), shared[mine].T @ shared[mine]
        right[own] = shared[mine].T @ target[mine]
        gram[own, own] = gram[:width, own] = gram[own, :width] = squares
        gram[:width, :width] += squares
        right[:width] += right[own]
    penalty = torch.full((len(gram),), RIDGE, dtype=torch.float64)
    penalty[:width] = 1e-3 * RIDGE
    solution = torch.linalg.solve(gram + penalty.diag(), right)
    return (solution[:width] + solution[width:].view(num_groups, width)) / size
