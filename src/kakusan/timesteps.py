"""Timestep distributions: chosen in training, proportional to the approximate cost of each step in evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kakusan.devices import precise_device
from kakusan.errors import InputError
from kakusan.noise import Randomness, rand
from kakusan.schedule import Schedule


@dataclass(frozen=True, eq=False)
class StepLaw:
    """Probabilities of the steps 1..T."""

    probs: Tensor  # (T,), float64, sums to 1; position t - 1 holds step t

    @classmethod
    def uniform(cls, depth: int) -> StepLaw:
        """Return the uniform distribution over the steps."""
        return cls(torch.full((depth,), 1 / depth, dtype=torch.float64))

    @classmethod
    def log_snr_normal(cls, schedule: Schedule, mean: float, std: float) -> StepLaw:
        """Return the distribution of steps whose log SNR follows N(mean, std^2), for any schedule.

        Source: Karras et al. 2022, section 5, who draw a continuous noise level. Here it is rounded to a step.
        """
        if not std > 0:
            raise InputError(f"the std of log-SNR must be positive, got {std}")
        edges = schedule.log_snr.flip(0)  # increasing; at the data log SNR is +inf
        mass = torch.special.ndtr((edges - mean) / std).diff().flip(0)
        if not mass.sum() > 0:
            raise InputError(
                f"no step of the schedule has log SNR near {mean}; its range ends at {edges[0].item():.1f}"
            )
        return cls(mass / mass.sum())

    @cached_property
    def _held(self) -> dict[torch.device, tuple[Tensor, Tensor]]:
        return {}

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return probabilities and their running sums on the device, copied once so that training steps do not wait."""
        if device not in self._held:
            self._held[device] = self.probs.to(device), self.probs.cumsum(0).to(device)
        return self._held[device]

    def draw(self, num: int, randomness: Randomness, device: torch.device | str = "cpu") -> Tensor:
        """Draw `num` steps, int64 (num,): one from each of `num` equally likely strata, in random order.

        Each step has this distribution, and together they cover it evenly. With one generator per example they are independent.
        """
        where = precise_device(device)
        uniform = rand((num,), randomness, torch.float64, where)
        if randomness is None or isinstance(randomness, torch.Generator):
            own = None if randomness is None else randomness.device
            order = torch.randperm(num, generator=randomness, device=own).to(where)
            uniform = (order + uniform) / num
        # a cumulative sum may end slightly below 1 after rounding
        last = len(self.probs) - 1
        return (torch.searchsorted(self._on(where)[1], uniform).clamp(max=last) + 1).to(device)

    def prob(self, t: Tensor) -> Tensor:
        """Return the probability of the steps t, float64; on the CPU if the device of t has no float64."""
        where = precise_device(t.device)
        return self._on(where)[0][t.to(where) - 1]
