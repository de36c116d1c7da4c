"""Classifier two-sample test: accuracy of a classifier that distinguishes samples from data; 0.5 if equal.

The classifier is a logistic regression, fitted to the first half of each set and tested on the second half. For a fixed
fit, its predictions are independent trials. Source: Lopez-Paz and Oquab 2017.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from kakusan.errors import InputError
from kakusan.measure.metric import Column, Metric, Sets, Value, in_random_order, pair, share

RIDGE = 1e-3  # ridge penalty per example on the weights of standardized features
LARGEST_SQUARED = 256  # with at most this many features, their squares are inputs too, to detect a wrong variance
MAX_STEPS, SMALL_STEP = 100, 1e-8


def two_sample_accuracy(samples: Tensor, reference: Tensor) -> Value:
    """Accuracy on test rows of features (N, D) and (M, D), with equal numbers of both; 0.5 for equal distributions.

    The p-value is the probability that guessing is at least as accurate, by the normal approximation of the binomial.
    """
    samples, reference = map(in_random_order, pair(samples, reference))
    size = min(len(samples), len(reference))
    if size < 4:
        raise InputError(f"a two-sample test needs at least four rows of each, got {len(samples)} and {len(reference)}")
    half = size // 2
    both = [samples[:size].double(), reference[:size].double()]
    seen = torch.cat([part[:half] for part in both])
    unseen = torch.cat([part[half:] for part in both])
    is_sample = torch.cat([torch.ones(half), torch.zeros(half)]).double()
    mean, std = seen.mean(0), seen.std(0)
    inputs = [_inputs((part - mean)[:, std > 0] / std[std > 0]) for part in (seen, unseen)]
    weights = logistic_regression(inputs[0], is_sample)
    truth = torch.cat([torch.ones(size - half), torch.zeros(size - half)]).bool()
    right = share((inputs[1] @ weights > 0) == truth)
    chance = 0.5 / math.sqrt(len(truth))
    return Value(right.value, right.standard_error, 0.5 * math.erfc((right.value - 0.5) / chance / math.sqrt(2)))


def _inputs(standardized: Tensor) -> Tensor:
    squares = [standardized.square()] if standardized.shape[1] <= LARGEST_SQUARED else []
    return torch.cat([standardized, *squares, torch.ones(len(standardized), 1).double()], dim=1)


def logistic_regression(x: Tensor, is_one: Tensor) -> Tensor:
    """Fit weights w (D,) of P(one | x) = sigmoid(x.w) to rows x (N, D), by Newton's method with a small ridge penalty.

    A step is halved until it lowers the loss, which nearly separable rows need.
    """

    def loss(w: Tensor) -> float:
        score = x @ w
        return ((F.softplus(score) - is_one * score).mean() + RIDGE / 2 * w.square().sum()).item()

    weights = torch.zeros(x.shape[1], dtype=x.dtype)
    ridge = RIDGE * torch.eye(x.shape[1], dtype=x.dtype)
    for _ in range(MAX_STEPS):
        chance = torch.sigmoid(x @ weights)
        gradient = x.T @ (chance - is_one) / len(x) + RIDGE * weights
        curvature = (x.T * (chance * (1 - chance))) @ x / len(x) + ridge
        step = torch.linalg.solve(curvature, gradient)
        now, last = loss(weights), weights
        weights = weights - step
        while loss(weights) > now and step.norm() >= SMALL_STEP * (1 + last.norm()):
            step = step / 2
            weights = last - step
        if step.norm() < SMALL_STEP * (1 + weights.norm()):
            return weights
    raise RuntimeError(f"the two-sample classifier did not converge in {MAX_STEPS} steps of Newton's method")


class TwoSampleMetric(Metric):
    """Accuracy of a classifier that distinguishes samples from held-out examples."""

    columns: ClassVar = {"two_sample_accuracy": Column("samples distinguished from data", "0.5 if equal", "accuracy")}

    def compute(self, sets: Sets) -> dict[str, Value]:
        """Compare the features of the samples with those of held-out examples."""
        return {"two_sample_accuracy": two_sample_accuracy(sets.samples.features, sets.reference.features)}
