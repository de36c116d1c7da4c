"""Groups of timesteps by log-SNR, their approximate cost, and the timestep distribution for that cost."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kakusan.likelihood.control_variate.wiener import step_weight
from kakusan.models.diffusion import Diffusion
from kakusan.timesteps import StepLaw

GROUPS = 24  # the first step is a separate group, because its cost is a likelihood and not a KL
EVEN_SHARE = 0.05  # share of evaluations given to all groups equally, in case the approximate cost is wrong


@dataclass(frozen=True)
class StepGroups:
    """Groups of steps of about equal width in log-SNR.

    Attributes:
        of_step: Group of each step, (T,); entry t - 1 is for step t.
        num: Number of groups.
        names: Steps of each group, in words.
        limits: Log-SNR at both ends of each group, the end nearer to the data first.
        typical: Rough cost of each step, float64 (T,), positive.
        free: Cost that no network changes, see `free_cost`, float64 (T,).
        slope: Position of each step in its group by log-SNR, in [-1, 1], (T,).
    """

    of_step: Tensor
    num: int
    names: list[str]
    limits: list[tuple[float, float]]
    typical: Tensor
    free: Tensor
    slope: Tensor

    @classmethod
    def of(cls, model: Diffusion) -> StepGroups:
        """Group a model's steps; if there are few, each step is its own group."""
        depth = model.depth
        log_snr = model.schedule.log_snr.clone()
        lowest = min(log_snr[log_snr.isfinite()].tolist(), default=1.0) - 1
        log_snr[1:] = log_snr[1:].clamp(min=lowest)  # -inf at zero terminal SNR
        if depth <= GROUPS:
            of_step = torch.arange(depth)
        else:
            edges = torch.linspace(log_snr[1].item(), log_snr[-1].item(), GROUPS, dtype=torch.float64)
            of_step = torch.bucketize(-log_snr[2:], -edges[1:-1])
            of_step = torch.cat([torch.zeros(1, dtype=torch.int64), 1 + of_step.unique(return_inverse=True)[1]])
        num = int(of_step.max()) + 1
        limits, names, slope = [], [], torch.zeros(depth, dtype=torch.float64)
        for k in range(num):
            steps = (of_step == k).nonzero()[:, 0] + 1
            first, last = int(steps[0]), int(steps[-1])
            limits.append((log_snr[first - 1].item(), log_snr[last].item()))
            center, half = (log_snr[first] + log_snr[last]) / 2, (log_snr[first] - log_snr[last]) / 2
            slope[first - 1 : last] = (log_snr[first : last + 1] - center) / half.clamp(min=1e-12)
            names.append(f"t = {first}" if first == last else f"t = {first}..{last}")
        error_var = 1 / (1 + model.schedule.snr[1:])  # error of the best filter for data of unit variance
        typical = step_weight(model)[1:] * error_var
        return cls(
            of_step, num, names, limits, typical.clamp(min=1e-6 * typical.mean().item()), free_cost(model), slope
        )

    def law(self, cost: Tensor) -> StepLaw:
        """Timestep distribution proportional to an approximate cost (T,), mixed with equal shares for all groups."""
        size = torch.zeros(self.num, dtype=torch.float64).index_add_(0, self.of_step, torch.ones_like(self.typical))
        even = 1 / (self.num * size[self.of_step])
        return StepLaw((1 - EVEN_SHARE) * cost / cost.sum() + EVEN_SHARE * even)


def default_law(model: Diffusion) -> StepLaw:
    """Timestep distribution that needs no data: proportional to the cost of a filter for unit variance."""
    groups = StepGroups.of(model)
    return groups.law(groups.typical)


def free_cost(model: Diffusion) -> Tensor:
    """Cost of each step in nats (T,) if the estimate of x were perfect, i.e. the variance part (M5, K5).

    It is 0 where the network determines the whole cost: for a learned variance, and at t = 1, where the cost is a
    likelihood.
    """
    ratio = model.schedule.beta_tilde[1:] * (-model.known_log_var[1:]).exp()
    free = 0.5 * model.num_dims * (ratio - 1 - ratio.log())
    free[0] = 0.0
    return free
