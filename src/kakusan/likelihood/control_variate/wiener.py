"""Best affine denoiser of a data set; its cost is known exactly and predicts a network's cost.

For x ~ N(m, S) the optimal denoiser is the Wiener filter. In the eigenvectors of S its error at z_t = a x + b eps is
(1 - g a) y - g b e, coordinate by coordinate, with y and e the coordinates of x - m and eps, g = a lam / (a^2 lam +
b^2). So the mean of its square over eps has a closed form for every x and t.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kakusan.models.diffusion import Diffusion

LARGEST_COVARIANCE = 1200  # dimensions; with more, each coordinate is filtered separately
SEEN = 3000  # largest number of examples from which the covariance is estimated
FLOOR = 0.01  # share of the mean variance that is added to the variance of each direction


class Wiener:
    """Cost of step t with the Wiener filter as the denoiser: kappa_t |x - x_hat(z_t)|^2 in nats."""

    def __init__(self, model: Diffusion, examples: Tensor):
        """Fit the filter to examples (n, *event). A poor fit increases the variance and adds no bias."""
        flat = examples.flatten(1).double()
        self.mean = flat.mean(0)
        centred = flat - self.mean
        if flat.shape[1] <= LARGEST_COVARIANCE:
            var, self.basis = torch.linalg.eigh(centred.T @ centred / len(flat))
        else:
            var, self.basis = centred.square().mean(0), None
        power = var.clamp(min=0)  # mean of y^2
        # a direction with almost no variance here may have some in other examples
        var = (power + FLOOR * power.mean())[None]
        schedule = model.schedule
        a, b = schedule.alpha_bar[1:, None].sqrt(), schedule.noise_var[1:, None].sqrt()
        gain = a * var / (a.square() * var + b.square())
        kappa = step_weight(model)[1:]
        self._left, self._noise = (1 - gain * a), gain * b  # (T, D)
        self._kappa = kappa[:, None]
        self._per_square = kappa[:, None] * self._left.square()  # factor of y^2, (T, D)
        self._per_noise = kappa * self._noise.square().sum(1)  # (T,)
        self.typical = self._per_square @ power + self._per_noise  # (T,), the mean cost of these examples

    def coordinates(self, x: Tensor) -> Tensor:
        """Coordinates y of the examples x (n, *event), float64 (n, D)."""
        return self._turned(x.flatten(1).double() - self.mean)

    def cost(self, y: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """Cost of examples with coordinates y at steps t for the noise eps (n, *event), in nats (n,)."""
        error = self._left[t - 1] * y - self._noise[t - 1] * self._turned(eps.flatten(1).double())
        return (self._kappa[t - 1] * error.square()).sum(1)

    def mean_cost(self, y: Tensor, t: Tensor) -> Tensor:
        """Exact mean of the cost over eps, (n,)."""
        return (self._per_square[t - 1] * y.square()).sum(1) + self._per_noise[t - 1]

    def summed(self, y: Tensor, group: Tensor, num_groups: int) -> Tensor:
        """Sum of `mean_cost` over the steps of each group, (n, num_groups); group[t - 1] is the group of step t."""
        dims = y.shape[1]
        per_square = torch.zeros(num_groups, dims, dtype=y.dtype).index_add_(0, group, self._per_square)
        per_noise = torch.zeros(num_groups, dtype=y.dtype).index_add_(0, group, self._per_noise)
        return y.square() @ per_square.T + per_noise

    def _turned(self, flat: Tensor) -> Tensor:
        return flat if self.basis is None else flat @ self.basis


def step_weight(model: Diffusion) -> Tensor:
    """Weights kappa_t = c0_t^2 / (2 var_t) of the squared error of the data estimate, float64 (T + 1,) (M5)."""
    weight = 0.5 * model.schedule.mean_coef_x.square() * (-model.known_log_var).exp()
    weight[0] = 0.0
    return weight
