"""Targets that waver less: where much noise leaves open which example z_t came from, what it would be on average.

The simple loss asks for the example that was noised, and its minimiser is the mean of all that could have been, weighted by
how likely each made z_t. With other examples at hand much of that mean can be had at once: less noise in the gradient,
since which of them was drawn matters less, and the same minimiser as they grow in number. With few it would be another
one, so there are many or none, and others in each step: a fixed few thousand are half as far from the truth at log SNR -3
as a network of a minute.
Source: Xu, Tong and Jaakkola 2023, "Stable Target Field for Reduced Variance Score Estimation in Diffusion Models",
equations 6 and 7.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from kakusan.noise import Randomness
from kakusan.schedule import Schedule
from kakusan.steps import StepLaw

MOST_NUMBERS = 2**22  # in the references of a step: what they cost does not grow with the pictures
FEWEST = 1000  # references that a mean is taken over, unless they are all there is
POOL = 16  # times as many are kept as a step is given
OPEN = 128  # dimensions times signal-to-noise ratio: where it is larger, averaging is not worth its time


def num_references(wanted: int, num: int, num_dims: int) -> int:
    """How many of `num` examples of so many numbers a step is given: all, as many as wanted and affordable, or none."""
    found = min(wanted, num, MOST_NUMBERS // num_dims)
    return found if found == num or found >= FEWEST else 0


class References:
    """Examples of the data that any noised one could have been: a step looks through a window at some of them.

    Args:
        pool: Examples in random order (n, *event), on their device.
        window: How many a step is given.
        law: Of the steps t that will be asked about.
        schedule: The noise.
        whole: Whether these are all that there are, the noised ones among them: then they are the whole answer.
    """

    def __init__(self, pool: Tensor, window: int, law: StepLaw, schedule: Schedule, whole: bool = False):
        self.pool = pool.flatten(1)
        self.half_squares = 0.5 * self.pool.square().sum(1)
        self.window, self.whole = window, whole
        num_dims = self.pool.shape[1]
        self.share = law.probs[num_dims * schedule.log_snr[1:].exp() < OPEN].sum().item()

    def rows(self, t: Tensor) -> Tensor:
        """Which examples of a batch are asked about: as many as the law leaves open, those of the highest t.

        By number, since a look at the levels themselves would make a GPU wait.
        """
        return t.topk(min(math.ceil(self.share * len(t)), len(t))).indices

    def seen(self, randomness: Randomness) -> tuple[Tensor, Tensor]:
        """The examples (window, dims) in the window, which is anywhere, and half their squared norms."""
        last = len(self.pool) - self.window
        if last == 0:
            return self.pool, self.half_squares
        one = randomness[0] if isinstance(randomness, Sequence) else randomness
        start = torch.randint(last + 1, (), generator=one, device="cpu" if one is None else one.device)
        if start.device.type == "cpu" == self.pool.device.type:
            first = int(start)  # no copy
            return self.pool[first : first + self.window], self.half_squares[first : first + self.window]
        at = start.to(self.pool.device) + torch.arange(self.window, device=self.pool.device)
        return self.pool[at], self.half_squares[at]

    def posterior_mean(
        self, z_t: Tensor, x: Tensor, signal: Tensor, noise_var: Tensor, randomness: Randomness = None
    ) -> Tensor:
        """E[x | z_t] if each example were itself or one of those in the window, all alike before z_t was seen.

        Args:
            z_t: signal x + noise, (b, *event).
            x: What each was made of, (b, *event).
            signal: sqrt(alpha_bar_t) of each, (b, 1, ...).
            noise_var: 1 - alpha_bar_t of each, likewise.
            randomness: Where the window is drawn from.
        """
        z, own, a, var = (part.flatten(1) for part in (z_t, x, signal, noise_var))
        others, half_squares = self.seen(randomness)
        with torch.autocast(z.device.type, enabled=False):
            # log N(z; a x, var) times var, without what is the same for all
            of_others = a * (z @ others.T) - a.square() * half_squares
            if self.whole:
                return ((of_others / var).softmax(1) @ others).view_as(x)
            of_own = a * (z * own).sum(1, keepdim=True) - 0.5 * a.square() * own.square().sum(1, keepdim=True)
            weights = (torch.cat([of_own, of_others], dim=1) / var).softmax(1)
            return (weights[:, :1] * own + weights[:, 1:] @ others).view_as(x)
