"""Interface of distributions of data that are known at every noise level, with their perfect denoisers."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from kakusan.errors import InputError
from kakusan.oracles.bound import Bound, Choice, exact_bound, reverse_var
from kakusan.oracles.inputs import Numbers, level
from kakusan.oracles.noising import Noising, noising

Prediction = Literal["eps", "x", "v", "score", "mean"]


class NoisyWorld(abc.ABC):
    """World of data x in D dimensions with z = a x + b eps, eps ~ N(0, I), at every noise level (a, b).

    a and b are numbers, or hold one number for each row of z. In a chain they are sqrt(alpha_bar_t) and
    sqrt(1 - alpha_bar_t). In a variance-exploding process, a = 1. Batches are (n, D), and everything is float64.
    """

    num_dims: int

    @abc.abstractmethod
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw n examples x, shape (n, D)."""

    @abc.abstractmethod
    def power(self) -> Tensor:
        """Mean square E |x|^2, shape ()."""

    @abc.abstractmethod
    def noisy_log_prob(self, z: Tensor, a: Numbers, b: Numbers) -> Tensor:
        """Log-density of z in nats, shape (n,)."""

    @abc.abstractmethod
    def entropy(self, a: float = 1.0, b: float = 0.0) -> Tensor:
        """Entropy of z in nats, shape (); default: that of the data. No mean ELBO exceeds -entropy()."""

    @abc.abstractmethod
    def denoise(self, z: Tensor, a: Numbers, b: Numbers) -> Tensor:
        """Perfect denoiser E[x | z], shape (n, D)."""

    @abc.abstractmethod
    def denoise_cov(self, z: Tensor, a: Numbers, b: Numbers) -> Tensor:
        """Posterior covariance Cov(x | z), shape (n, D, D)."""

    @abc.abstractmethod
    def denoise_var(self, z: Tensor, a: Numbers, b: Numbers) -> Tensor:
        """Posterior variance Var(x_d | z), the diagonal of `denoise_cov`, shape (n, D)."""

    @abc.abstractmethod
    def expected_var(self, a: Numbers, b: Numbers) -> Tensor:
        """Mean squared error E Var(x_d | z) of the perfect denoiser at each of L levels, shape (L, D)."""

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density log p(x) in nats, shape (n,)."""
        return self.noisy_log_prob(x, 1.0, 0.0)

    def mmse(self, a: Numbers, b: Numbers) -> Tensor:
        """Minimum mean squared error E |x - E[x | z]|^2 at each of L levels, summed over dimensions, shape (L,)."""
        return self.expected_var(a, b).sum(1)

    # Other parametrizations of the perfect denoiser (M8)

    def eps(self, z: Tensor, a: Numbers, b: Numbers) -> Tensor:
        """Perfect noise prediction E[eps | z] = (z - a E[x | z]) / b, shape (n, D)."""
        signal, noise = level(a, b)
        if (noise == 0).any():
            raise InputError("there is no noise to predict at b = 0; choose a level with b > 0")
        return (z.to(signal) - signal * self.denoise(z, a, b)) / noise

    def score(self, z: Tensor, a: Numbers, b: Numbers) -> Tensor:
        """Gradient of the log-density of z, -E[eps | z] / b, shape (n, D)."""
        return -self.eps(z, a, b) / level(a, b)[1]

    def v(self, z: Tensor, a: Numbers, b: Numbers) -> Tensor:
        """Perfect velocity prediction E[a eps - b x | z], shape (n, D)."""
        signal, noise = level(a, b)
        return signal * self.eps(z, a, b) - noise * self.denoise(z, a, b)

    def network(
        self, betas: Noising | Numbers, prediction: Prediction = "eps", first: int = 1
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """Build the perfect network of a chain, a function from (z_t, t) to the prediction, to replace a trained one.

        Args:
            betas: beta_1, ..., beta_T.
            prediction: Predicted quantity: "eps", "x", "v", "score", or the "mean" of z_{t-1}.
            first: Number of the first noise step in the code under test: 1, or 0 if t runs over 0..T-1.
        """
        if prediction not in get_args(Prediction):
            raise InputError(f"a network predicts one of {', '.join(get_args(Prediction))}, got {prediction!r}")
        tables = noising(betas)

        def predict(z: Tensor, t: Tensor) -> Tensor:
            step = torch.as_tensor(t).cpu().expand(len(z)) + (1 - first)
            flat, a, b = z.detach().reshape(len(z), -1), tables.a[step], tables.b[step]
            if prediction == "mean":
                x_hat = self.denoise(flat, a, b)
                predicted = tables.from_x[step, None] * x_hat + tables.from_z[step, None] * flat.to(x_hat)
            else:
                predicted = {"eps": self.eps, "x": self.denoise, "v": self.v, "score": self.score}[prediction](
                    flat, a, b
                )
            return predicted.reshape(z.shape).to(z)

        return predict

    # Limits of training (M7, M14)

    def floor_of_the_simple_loss(self, betas: Noising | Numbers) -> Tensor:
        """Minimum of the simple loss E |eps - eps_hat(z_t)|^2 for uniform t in 1..T, summed over dimensions, ()."""
        tables = noising(betas)
        a, b = tables.a[1:], tables.b[1:]
        return ((a / b).square() * self.mmse(a, b)).mean()

    def mean_bound(self, betas: Noising | Numbers, variance: Choice | Numbers = "beta") -> Bound:
        """Terms of the perfect denoiser's ELBO, averaged over the data; with that variance no network exceeds it.

        Args:
            betas: beta_1, ..., beta_T.
            variance: Variance of the reverse steps, a name or numbers; see `reverse_var`.
        """
        tables = noising(betas)
        left = self.expected_var(tables.a[1:], tables.b[1:])
        return exact_bound(tables, reverse_var(variance, tables, left), left, self.power())
