"""Control variate for the cost of a diffusion step: a regression without network evaluations.

The bound of an example is a sum over T steps, and one of them is evaluated. Let g(x, t, eps) be a function whose mean
over eps, summed over t, is known. Subtracting g from the evaluated term and adding its known sum keeps the mean.
The better g predicts the cost, the smaller is the variance. Here g is a regression on features that need no network:
the energy of an example, its unusual pixels, and the cost of a Wiener filter. It is fitted to the evaluations of *other*
examples, so the estimate stays unbiased.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kakusan.likelihood.chains import CHUNK, GetBatch
from kakusan.likelihood.control_variate.features import Features
from kakusan.likelihood.control_variate.wiener import Wiener
from kakusan.parallel import by_rows
from kakusan.progress import progress

FARTHEST = 8.0  # features are clipped at this many standard deviations
RIDGE = 1.0  # ridge penalty, in evaluations, that pulls a group's coefficients to the shared ones
SHARED_RIDGE = 1e-3 * RIDGE  # ridge penalty that pulls the shared coefficients to 0


def _standardized(columns: Tensor) -> Tensor:
    """Standardize to mean 0 and std 1, and clip, so that a single outlier does not extrapolate."""
    spread = columns.std(0)
    scaled = torch.where(spread > 1e-12, (columns - columns.mean(0)) / spread.clamp(min=1e-12), 0.0)
    return scaled.clamp(-FARTHEST, FARTHEST)


class Predictors:
    """Columns u(x, t, eps) of the regression for all examples of a data set, and sums over t of their means.

    Some columns do not depend on the noise: a constant, features of the example, a slope over the group's steps, and
    the mean cost of a Wiener filter. The others have mean 0 over the noise: the deviation of the filter's cost from
    its mean, and features of the noise. Features are in units of the step's typical cost.
    """

    def __init__(
        self, wiener: Wiener, typical: Tensor, slope: Tensor, group: Tensor, num_groups: int, batch: GetBatch, num: int
    ):
        """Prepare the features of all examples.

        Args:
            wiener: Best affine denoiser of the data.
            typical: Approximate cost of each step, (T,).
            slope: Position of each step in its group, in [-1, 1], (T,).
            group: Group of each step, (T,).
            num_groups: Number of groups.
            batch: Function that returns examples on the CPU.
            num: Number of examples.
        """
        chunks = torch.arange(num).split(CHUNK)
        self._features = Features(batch, chunks)
        zero = torch.zeros(num_groups, dtype=torch.float64)
        self.wiener, self.typical, self.slope = wiener, typical, typical * slope
        self._typical_sums = zero.index_add(0, group, self.typical)
        self._slope_sums = zero.index_add(0, group, self.slope)
        plain, sums = [], []
        for part in progress(chunks, "preparing the measurement"):
            x = batch(part)
            plain.append(by_rows(self._features.own, x))
            sums.append(by_rows(lambda x: wiener.summed(wiener.coordinates(x), group, num_groups), x))
        self._wiener_sums = torch.cat(sums)  # (N, groups)
        scaled = _standardized(torch.cat(plain))
        constant = torch.ones(num, 1, dtype=torch.float64)
        self.own = torch.cat([constant, scaled], 1)  # (N, k)

    def at(self, rows: Tensor, x: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """Columns u of the examples x = batch(rows) at steps t with noise eps, (n, columns); all on the CPU."""
        return by_rows(self._at, rows, x, t, eps)

    def _at(self, rows: Tensor, x: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        y, typical = self.wiener.coordinates(x), self.typical[t - 1, None]
        mean = self.wiener.mean_cost(y, t)[:, None]
        noise = self.wiener.cost(y, eps, t)[:, None] - mean
        centred = self._features.of_noise(x, eps)
        return torch.cat([typical * self.own[rows], self.slope[t - 1, None], mean, noise, typical * centred], 1)

    def sums(self, rows: Tensor, coefficients: Tensor) -> Tensor:
        """Mean of u . coefficients over the noise, summed over each group's steps: (n, groups).

        The coefficients have shape (groups, columns).
        """
        known = self.own.shape[1]
        own = self.own[rows] @ coefficients[:, :known].T * self._typical_sums
        return own + self._slope_sums * coefficients[:, known] + self._wiener_sums[rows] * coefficients[:, known + 1]


@dataclass(frozen=True)
class Calls:
    """Inputs of the network evaluations, and their costs."""

    rows: Tensor  # (n,) examples
    t: Tensor  # (n,) steps
    prob: Tensor  # (n,) probability of the step
    u: Tensor  # (n, columns) predictors
    cost: Tensor  # (n,) nats, without the parameter-free part


def fit(calls: Calls, group: Tensor, num_groups: int) -> Tensor:
    """Fit coefficients (groups, columns) that minimize the mean square of (cost - u . coefficients) / prob.

    The ridge regression has coefficients shared by all steps, and each group's deviations from them. Given the shared
    ones, each group's deviations are a separate regression, so they are eliminated group by group.
    """
    scale = (calls.cost / calls.prob).square().mean().sqrt()
    if not scale > 0:
        return torch.zeros(num_groups, calls.u.shape[1], dtype=torch.float64)
    target = calls.cost / calls.prob / scale
    u = calls.u / calls.prob[:, None] / scale
    size = u.square().mean(0).sqrt().clamp(min=1e-12)
    u = u / size
    mine = [group[calls.t - 1] == k for k in range(num_groups)]
    gram = torch.stack([u[rows].T @ u[rows] for rows in mine])  # (groups, columns, columns)
    right = torch.stack([u[rows].T @ target[rows] for rows in mine])[:, :, None]
    eye = torch.eye(u.shape[1], dtype=torch.float64)
    own = torch.linalg.cholesky(gram + RIDGE * eye)
    left = RIDGE * torch.cholesky_solve(torch.cat([gram, right], 2), own).sum(
        0
    )  # the part that the deviations do not explain
    shared = torch.linalg.solve(left[:, :-1] + SHARED_RIDGE * eye, left[:, -1:])
    deviations = torch.cholesky_solve(right - gram @ shared, own)
    return (shared + deviations)[:, :, 0] / size
