"""Gradient ascent on the ELBO of the Dirichlet-multinomial model, whose optimum is known (S68)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kakusan.models.dirichlet_multinomial import DirichletMultinomial


class ConjugateFit(nn.Module):
    """One Dirichlet(gamma_i) for each row of counts, trained by gradients; the optimum is gamma_i = x_i + alpha.

    The parameters are the logarithms of gamma and, if it is learned, of alpha, so both stay positive.
    """

    def __init__(self, concentration: float, learn_concentration: bool, event_shape: tuple[int, ...]):
        super().__init__()
        (num_categories,) = event_shape
        log_start = torch.tensor(concentration, dtype=torch.float64, device="cpu").log().item()
        start = torch.full((num_categories,), log_start, dtype=torch.float64)
        self.log_concentration = nn.Parameter(start, requires_grad=learn_concentration)
        self.log_gamma = nn.Parameter(torch.zeros(0, num_categories, dtype=torch.float64))
        self.register_buffer("total_count", torch.zeros((), dtype=torch.int64))

    def start_at(self, counts: Tensor) -> None:
        """Create the posteriors of these rows, initialized at gamma = 1, far from the optimum."""
        self.log_gamma = nn.Parameter(torch.zeros_like(counts, dtype=torch.float64))
        self.total_count.fill_(int(counts.sum(-1).median()))

    def chain(self) -> DirichletMultinomial:
        """Return the fitted model; counts drawn from it have the median total of the training rows."""
        return DirichletMultinomial(self.log_concentration.detach().exp(), int(self.total_count))

    def elbo(self, counts: Tensor, rows: Tensor) -> Tensor:
        """Exact ELBO in nats, (b,), of the counts of these rows under their gamma; differentiable in gamma and alpha."""
        model = DirichletMultinomial(torch.ones(counts.shape[-1], dtype=torch.float64, device=counts.device))
        model.concentration = self.log_concentration.exp()
        return model.elbo(counts, self.log_gamma[rows].exp())

    def distance_to_exact(self, counts: Tensor) -> float:
        """Largest relative difference between gamma and counts + alpha over all rows and categories."""
        exact = counts + self.log_concentration.exp()
        return (self.log_gamma.exp() / exact - 1).abs().max().item()
