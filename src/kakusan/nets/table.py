"""Networks for rows of a table: a linear map plus a perceptron, which can be initialized as a factor analyzer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kakusan.nets.class_shift import ClassShift
from kakusan.nets.layers import zeroed
from kakusan.nets.mlp import ACTIVATIONS, Activation, joined

LOWEST_VAR = 1e-6  # lower limit of a variance given the factors
LARGEST_RATIO = 1.5  # largest change of a log-variance by the perceptron; without it outliers get unbounded variances
ITERATIONS, TOLERANCE = 500, 1e-4  # limits of expectation maximization


class LinearPlusMLP(nn.Module):
    """Linear map from (b, inputs) to (mean, log_var), each (b, outputs), plus a perceptron that is zero at first.

    Args:
        inputs: Size of an input.
        hidden: Widths of the hidden layers; without any, only the linear map and a constant log-variance remain.
        outputs: Size of an output.
        activation: Activation of the hidden layers.
        dropout: Probability of dropout for hidden units in training.
        num_classes: Number of classes if class-conditional, otherwise 0.
    """

    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int],
        outputs: int,
        activation: Activation = "silu",
        dropout: float = 0.0,
        num_classes: int = 0,
    ):
        super().__init__()
        layers: list[nn.Module] = []
        size = inputs + num_classes
        for width in hidden:
            layers += [nn.Linear(size, width), ACTIVATIONS[activation](), nn.Dropout(dropout)]
            size = width
        self.linear = nn.Linear(inputs, outputs)
        self.shift = ClassShift(num_classes, (outputs,))
        self.log_var = nn.Parameter(torch.zeros(outputs))
        self.body = nn.Sequential(*layers)
        self.head = zeroed(nn.Linear(size, 2 * outputs)) if hidden else None

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance."""
        mean, log_var = self.shift(self.linear(x), cond), self.log_var.expand(len(x), -1)
        if self.head is None:
            return mean, log_var
        more, log_ratio = self.head(self.body(joined(x, cond, self.shift.num_classes))).chunk(2, dim=1)
        return mean + more, log_var + LARGEST_RATIO * torch.tanh(log_ratio / LARGEST_RATIO)

    @torch.no_grad()
    def set_linear(self, weight: Tensor, bias: Tensor, log_var: Tensor) -> None:
        """Set the linear map and the constant log-variance."""
        self.linear.weight.copy_(weight)
        self.linear.bias.copy_(bias)
        self.log_var.copy_(log_var)

    @torch.no_grad()
    def set_shift(self, shift: Tensor) -> None:
        """Set the shift of the mean of each class, (num_classes, outputs)."""
        assert self.shift.table is not None, "there are classes"
        self.shift.table.weight.copy_(shift)


@torch.no_grad()
def factors(x: Tensor, num: int, weights: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Fit the factor analyzer x = W z + mean + noise by expectation maximization, in float64.

    The columns of W are rotated so that W^T Psi^-1 W is diagonal. Then the posterior of z has independent entries, and a
    VAE with a diagonal encoder attains the likelihood of the factor analyzer exactly.

    Args:
        x: Examples (N, D).
        num: Number of factors, at most D.
        weights: 1 for an observed value and 0 for a missing one, which is replaced by its mean; (N, D).

    Returns:
        W (D, num), the mean (D,), and the variance of the noise, the diagonal (D,) of Psi.

    Source: Rubin and Thayer 1982, https://doi.org/10.1007/BF02293851.
    """
    x = x.double()
    seen = torch.ones_like(x) if weights is None else weights.double()
    mean = (x * seen).sum(0) / seen.sum(0).clamp(min=1)
    centered = (x - mean) * seen
    cov = _positive(centered.T @ centered / (seen.T @ seen).clamp(min=1))
    size = len(mean)
    total = cov.diagonal().clamp(min=LOWEST_VAR)
    values, vectors = torch.linalg.eigh(cov)
    values, vectors = values.flip(0)[:num], vectors.flip(1)[:, :num]
    rest = ((total.sum() - values.sum()) / max(size - num, 1)).clamp(min=LOWEST_VAR)
    weight = vectors * (values - rest).clamp(min=LOWEST_VAR).sqrt()
    noise = (total - weight.square().sum(1)).clamp(min=0.01 * total)
    identity = torch.eye(num, dtype=x.dtype, device=x.device)
    for _ in range(ITERATIONS):
        before = noise
        posterior = torch.linalg.inv(identity + weight.T @ (weight / noise[:, None]))
        read = posterior @ (weight / noise[:, None]).T  # E[z | x] = read (x - mean)
        cross = cov @ read.T
        second = posterior + read @ cross
        weight = torch.linalg.solve(second, cross.T).T
        noise = (total - (weight * cross).sum(1)).clamp(min=LOWEST_VAR)
        if ((noise - before).abs() < TOLERANCE * noise).all():
            break
    _, rotation = torch.linalg.eigh(weight.T @ (weight / noise[:, None]))
    return weight @ rotation.flip(1), mean, noise


def _positive(cov: Tensor) -> Tensor:
    """Nearest matrix without negative eigenvalues, which covariances from incomplete pairs may have."""
    values, vectors = torch.linalg.eigh(cov)
    return (vectors * values.clamp(min=0)) @ vectors.T


@torch.no_grad()
def start_at_factors(
    encoder: LinearPlusMLP, decoder: LinearPlusMLP, x: Tensor, at: list[int], weights: Tensor | None = None
) -> None:
    """Set both networks to the factor analyzer of some entries of x; the encoder ignores the other entries.

    Args:
        encoder: Network whose output is the mean and log-variance of z.
        decoder: Network whose output is the mean and log-variance of x. Entries not in `at` get mean 0 and variance 1.
        x: Examples (N, D).
        at: Indices of the analyzed entries.
        weights: 1 for an observed value and 0 for a missing one, (N, len(at)).
    """
    num, size, used = encoder.linear.out_features, x.shape[1], min(encoder.linear.out_features, len(at))
    wide = torch.zeros(size, num, dtype=torch.float64, device=x.device)
    tall, log_var, mean, log_noise = wide.T.clone(), wide.new_zeros(num), wide.new_zeros(size), wide.new_zeros(size)
    if at:
        weight, mean[at], noise = factors(x[:, at], used, weights)
        precision = 1 + (weight.square() / noise[:, None]).sum(0)  # precision of each latent given x
        wide[at, :used] = weight
        tall[:used, at] = (weight / noise[:, None]).T / precision[:, None]
        log_var[:used], log_noise[at] = -precision.log(), noise.log()
    decoder.set_linear(wide, mean, log_noise)
    encoder.set_linear(tall, -tall @ mean, log_var)
