"""A law of the data that stays known under noise, and what a perfect denoiser says there."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from kakusan.errors import InputError
from kakusan.oracles.bound import Bound, Choice, exact_bound, reverse_var
from kakusan.oracles.given import Numbers, level
from kakusan.oracles.noising import Noising, noising

Word = Literal["eps", "x", "v", "score", "mean"]


class NoisyWorld(abc.ABC):
    """x ~ p over vectors of D numbers, and z = a x + b eps with eps ~ N(0, I) at every noise level (a, b).

    a and b are numbers, or one of each for every row of z. For a chain they are sqrt(alpha_bar_t) and
    sqrt(1 - alpha_bar_t); for a variance-exploding process a = 1. Batches are (n, D), and everything is float64.
    """

    num_dims: int

    @abc.abstractmethod
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n draws of x, shape (n, D)."""

    @abc.abstractmethod
    def power(self) -> Tensor:
        """E |x|^2, shape ()."""

    @abc.abstractmethod
    def noisy_log_prob(self, z: Tensor, a: Numbers, b: Numbers) -> Tensor:
        """Log-density of z in nats, shape (n,)."""

    @abc.abstractmethod
    def entropy(self, a: float = 1.0, b: float = 0.0) -> Tensor:
        """Of z in nats, shape (); of the data unless a level is given. No mean ELBO passes -entropy()."""

    @abc.abstractmethod
    def denoise(self, z: Tensor, a: Numbers, b: Numbers) -> Tensor:
        """E[x | z], what a perfect network says of the data, shape (n, D)."""

    @abc.abstractmethod
    def denoise_cov(self, z: Tensor, a: Numbers, b: Numbers) -> Tensor:
        """Cov(x | z), shape (n, D, D)."""

    @abc.abstractmethod
    def denoise_var(self, z: Tensor, a: Numbers, b: Numbers) -> Tensor:
        """Var(x_d | z), the diagonal of `denoise_cov`, shape (n, D)."""

    @abc.abstractmethod
    def spread(self, a: Numbers, b: Numbers) -> Tensor:
        """E Var(x_d | z): what a perfect denoiser errs by at each of L levels, shape (L, D)."""

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, shape (n,)."""
        return self.noisy_log_prob(x, 1.0, 0.0)

    def mmse(self, a: Numbers, b: Numbers) -> Tensor:
        """E |x - E[x | z]|^2 at each of L levels, summed over the dimensions, shape (L,): no denoiser errs less."""
        return self.spread(a, b).sum(1)

    # The same knowledge in other words, theory M8

    def eps(self, z: Tensor, a: Numbers, b: Numbers) -> Tensor:
        """E[eps | z] = (z - a E[x | z]) / b, shape (n, D)."""
        signal, noise = level(a, b)
        if (noise == 0).any():
            raise InputError("there is no noise to predict at b = 0; ask at a level with b > 0")
        return (z.to(signal) - signal * self.denoise(z, a, b)) / noise

    def score(self, z: Tensor, a: Numbers, b: Numbers) -> Tensor:
        """Gradient of the log-density of z, -E[eps | z] / b, shape (n, D)."""
        return -self.eps(z, a, b) / level(a, b)[1]

    def v(self, z: Tensor, a: Numbers, b: Numbers) -> Tensor:
        """E[a eps - b x | z], shape (n, D)."""
        signal, noise = level(a, b)
        return signal * self.eps(z, a, b) - noise * self.denoise(z, a, b)

    def network(
        self, betas: Noising | Numbers, word: Word = "eps", first: int = 1
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """The perfect network of a chain, (z_t, t) -> prediction, to stand in for a trained one.

        Args:
            betas: beta_1, ..., beta_T.
            word: What it predicts: "eps", "x", "v", "score", or the "mean" of z_{t-1}.
            first: What the code under test calls the first noise step: 1, or 0 where t runs over 0..T-1.
        """
        if word not in get_args(Word):
            raise InputError(f"a network predicts one of {', '.join(get_args(Word))}, got {word!r}")
        tables = noising(betas)

        def predict(z: Tensor, t: Tensor) -> Tensor:
            step = torch.as_tensor(t).cpu().expand(len(z)) + (1 - first)
            flat, a, b = z.detach().reshape(len(z), -1), tables.a[step], tables.b[step]
            if word == "mean":
                x_hat = self.denoise(flat, a, b)
                said = tables.from_x[step, None] * x_hat + tables.from_z[step, None] * flat.to(x_hat)
            else:
                said = {"eps": self.eps, "x": self.denoise, "v": self.v, "score": self.score}[word](flat, a, b)
            return said.reshape(z.shape).to(z)

        return predict

    # What training can reach, theory M7, M14

    def floor_of_the_simple_loss(self, betas: Noising | Numbers) -> Tensor:
        """Least E |eps - eps_hat(z_t)|^2 with t uniform over 1..T, summed over the dimensions, shape ()."""
        tables = noising(betas)
        a, b = tables.a[1:], tables.b[1:]
        return ((a / b).square() * self.mmse(a, b)).mean()

    def mean_bound(self, betas: Noising | Numbers, variance: Choice | Numbers = "beta") -> Bound:
        """Mean over the data of the ELBO of the perfect denoiser, by term: no network does better with that variance.

        Args:
            betas: beta_1, ..., beta_T.
            variance: Of the reverse steps: a name or numbers, see `reverse_var`.
        """
        tables = noising(betas)
        spread = self.spread(tables.a[1:], tables.b[1:])
        return exact_bound(tables, reverse_var(variance, tables, spread), spread, self.power())
