"""The study notes' form of the terms between the levels of a hierarchical VAE, as a training objective (S19, E5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from kakusan.distributions import Normal, normal_kl
from kakusan.noise import Randomness

if TYPE_CHECKING:
    from kakusan.models.hierarchical_vae import HierarchicalVAE


def notes_third_term(
    model: HierarchicalVAE, x: Tensor, generator: Randomness = None, *, cond: Tensor | None = None
) -> dict[str, Tensor]:
    """Terms of the notes' objective on one drawn path in nats, each (b,); higher is better.

    The term of a level below the top is -KL(q(z_l | z_{l-1}) || p(z_l | z_{l+1})), as if z_{l+1} did not depend on z_l.
    The sum is not the ELBO. With two levels, and with I the mutual information of z_1 and z_2 under q given x,

        ELBO = notes' form + sum_h Cov_q(z_1h, mean_h of p(z_1 | z_2)),
        notes' form = (ELBO of the family q(z_1 | x) q(z_2 | x)) - I  <=  log p(x).

    The notes' form is thus also a lower bound of log p(x). It is above the ELBO if the covariance is negative.

    Args:
        model: The hierarchical VAE.
        x: Data, shape (b, *event).
        generator: Random generator of the path; equal generators give the path of `HierarchicalVAE.terms`.
        cond: Condition, or None.
    """
    path, posteriors = model.draw(x, cond, generator)
    return notes_terms_on(model, path, posteriors, cond)


def notes_terms_on(
    model: HierarchicalVAE, path: list[Tensor], posteriors: list[Normal] | None = None, cond: Tensor | None = None
) -> dict[str, Tensor]:
    """Terms of the notes' objective in nats, each (b,), on a given path [x, z_1, ..., z_L].

    With two levels and unit variances, each term corresponds to one of the notes' loss L1 + L2 + L3 (S25), which is in
    units of -1/2 nat. D is the number of dimensions of x:

        J1 = "reconstruction" = -(L1 + D log 2 pi) / 2,  L1 = |x - x_hat|^2
        J2 = "level 2"        = -L2 / 2,                 L2 = -sum_h (1 + log_var_2 - mean_2^2 - var_2)
        J3 = "level 1"        = -L3 / 2,                 L3 = -sum_h (1 + log_var_1 - (mean_1 - z_hat)^2 - var_1)
    """
    q = posteriors or [model.encode(z, t, cond) for t, z in enumerate(path[:-1], start=1)]
    terms = {"reconstruction": model.decode(path[1], 1, cond).log_prob(path[0])}
    for level in range(1, model.depth):
        p = model.decode(path[level + 1], level + 1, cond)
        assert isinstance(p, Normal), "latents are Gaussian given the level above"
        terms[f"level {level}"] = -normal_kl(q[level - 1], p)
    terms[f"level {model.depth}"] = -normal_kl(q[-1], model.prior(cond))
    return terms
