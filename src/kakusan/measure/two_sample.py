"""Classifier two-sample test: can a classifier tell samples from data? If the laws are equal, half its answers are right.

The classifier is a logistic regression, fitted to the first half of each set and asked about the second half: given
the fit, its answers are independent trials. Source: Lopez-Paz and Oquab 2017.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kakusan.measure.value import Value, share

RIDGE = 1e-3  # of the weights of standardised features, per example
LARGEST_SQUARED = 256  # so many features at most are joined by their squares, which tell a wrong spread
MOST_STEPS, SMALL_STEP = 100, 1e-8


def two_sample_accuracy(samples: Tensor, reference: Tensor) -> Value:
    """Share of right answers on unseen rows of features (N, D) and (M, D), of equal numbers; 0.5 for equal laws.

    The p-value is that of so many right answers or more by guessing, in the normal approximation of the binomial.
    """
    size = min(len(samples), len(reference))
    if size < 4:
        raise ValueError(f"a two-sample test needs at least four rows of each, got {len(samples)} and {len(reference)}")
    half = size // 2
    both = [samples[:size].double(), reference[:size].double()]
    seen = torch.cat([part[:half] for part in both])
    unseen = torch.cat([part[half:] for part in both])
    is_sample = torch.cat([torch.ones(half), torch.zeros(half)]).double()
    mean, std = seen.mean(0), seen.std(0)
    inputs = [_inputs((rows - mean)[:, std > 0] / std[std > 0]) for rows in (seen, unseen)]
    weights = logistic_regression(inputs[0], is_sample)
    truth = torch.cat([torch.ones(size - half), torch.zeros(size - half)]).bool()
    right = share((inputs[1] @ weights > 0) == truth)
    chance = 0.5 / math.sqrt(len(truth))
    return Value(right.value, right.standard_error, 0.5 * math.erfc((right.value - 0.5) / chance / math.sqrt(2)))


def _inputs(standardised: Tensor) -> Tensor:
    squares = [standardised.square()] if standardised.shape[1] <= LARGEST_SQUARED else []
    return torch.cat([standardised, *squares, torch.ones(len(standardised), 1).double()], dim=1)


def logistic_regression(x: Tensor, is_one: Tensor) -> Tensor:
    """Weights (D,) of P(one | x) = sigmoid(x.w) for rows x (N, D), by Newton's method with a small ridge."""
    weights = torch.zeros(x.shape[1], dtype=x.dtype)
    ridge = RIDGE * torch.eye(x.shape[1], dtype=x.dtype)
    for _ in range(MOST_STEPS):
        chance = torch.sigmoid(x @ weights)
        gradient = x.T @ (chance - is_one) / len(x) + RIDGE * weights
        curvature = (x.T * (chance * (1 - chance))) @ x / len(x) + ridge
        step = torch.linalg.solve(curvature, gradient)
        weights = weights - step
        if step.norm() < SMALL_STEP * (1 + weights.norm()):
            return weights
    raise RuntimeError(f"the two-sample classifier did not settle in {MOST_STEPS} steps of Newton's method")
