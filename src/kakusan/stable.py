"""Targets that waver less: where much noise leaves open which example z_t came from, what it would be on average.

The simple loss asks for the example that was noised, and its minimiser is the mean of all that could have been, weighted by
how likely each made z_t. With other examples at hand much of that mean can be had at once: the same minimiser as they
grow in number, and less noise in the gradient, since which of them was drawn no longer matters.
Source: Xu, Tong and Jaakkola 2023, "Stable Target Field for Reduced Variance Score Estimation in Diffusion Models",
equations 6 and 7; here the references are the same in every step, so that they cost two products and no fetching.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kakusan.schedule import Schedule
from kakusan.steps import StepLaw

MOST_NUMBERS = 2**22  # in all references: what they cost does not grow with the pictures
OPEN = 128  # dimensions times signal-to-noise ratio, beyond which hardly another example could have been noised


class References:
    """Examples of the data (r, *event) that any noised one could have been, on its device."""

    def __init__(self, examples: Tensor):
        self.examples = examples.flatten(1)
        self.half_squares = 0.5 * self.examples.square().sum(1)

    def posterior_mean(self, z_t: Tensor, x: Tensor, signal: Tensor, noise_var: Tensor) -> Tensor:
        """E[x | z_t] if each example were itself or one of the references, all alike before z_t was seen.

        Args:
            z_t: signal x + noise, (b, *event).
            x: What each was made of, (b, *event).
            signal: sqrt(alpha_bar_t) of each, (b, 1, ...).
            noise_var: 1 - alpha_bar_t of each, likewise.
        """
        z, own, a, var = (part.flatten(1) for part in (z_t, x, signal, noise_var))
        # log N(z; a x, var) times var, without what is the same for all
        of_own = a * (z * own).sum(1, keepdim=True) - 0.5 * a.square() * own.square().sum(1, keepdim=True)
        of_others = a * (z @ self.examples.T) - a.square() * self.half_squares
        weights = (torch.cat([of_own, of_others], dim=1) / var).softmax(1)
        return (weights[:, :1] * own + weights[:, 1:] @ self.examples).view_as(x)


def most_references(num_dims: int) -> int:
    """How many references of so many numbers are kept at most."""
    return max(MOST_NUMBERS // num_dims, 1)


def noisiest(t: Tensor, law: StepLaw, schedule: Schedule, num_dims: int) -> Tensor:
    """Which examples of a batch to ask the references about: as many as the law leaves open, those of the highest t.

    By number, since a look at the levels themselves would make a GPU wait.
    """
    share = law.probs[num_dims * schedule.log_snr[1:].exp() < OPEN].sum().item()
    return t.topk(min(math.ceil(share * len(t)), len(t))).indices
