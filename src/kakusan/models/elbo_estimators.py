"""Estimators of the ELBO of a diffusion model from T, two or one drawn latents, with equal means (M3, M4, M5).

ELBO(x) = E[log p(z_T)] + H(q(z_1..z_T | x)) + sum_t E[l_t],   l_t = log p(z_{t-1} | z_t).

The first two terms are known (M2). The estimators differ in the number of l_t that they evaluate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kakusan.bound import draw_path
from kakusan.devices import precise, precise_device
from kakusan.distributions import HALF_LOG_2PI, Normal, sum_event
from kakusan.noise import Randomness, rand

if TYPE_CHECKING:
    from kakusan.models.diffusion import Diffusion


def from_path(model: Diffusion, x: Tensor, generator: Randomness, cond: Tensor | None) -> Tensor:
    """C(x) + sum_t l_t on one path z_1..z_T ~ q, in nats, (b,), with T network evaluations (S48-S51, M3)."""
    path = draw_path(model, x, generator, cond=cond)
    total = bound_constant(model, x)  # float64, as the sum of T terms of either sign
    for t in range(1, model.depth + 1):
        total = total + model.step_log_prob(path[t - 1], path[t], t, cond).to(total.device)
    return total.to(x)


def from_pair(model: Diffusion, x: Tensor, generator: Randomness, centered: bool, cond: Tensor | None) -> Tensor:
    """C(x) + T l_t in nats, (b,), for uniform t, z_{t-1} ~ q(z_{t-1} | x) and z_t ~ q(z_t | z_{t-1}) (S56, M4)."""
    t = _uniform_steps(model, x, generator)
    z_before = model.marginal(x, t - 1).sample(generator)
    beta = model.schedule.at("beta", t, x)
    z_t = Normal.from_var((1 - beta).sqrt() * z_before, beta).sample(generator)
    return _total(model, x, t, model.step_log_prob(z_before, z_t, t, cond), centered, pair=True)


def from_single(model: Diffusion, x: Tensor, generator: Randomness, centered: bool, cond: Tensor | None) -> Tensor:
    """C(x) + T E[l_t | z_t, x] in nats, (b,), for uniform t and z_t ~ q(z_t | x) (S57, M5)."""
    t = _uniform_steps(model, x, generator)
    z_t = model.marginal(x, t).sample(generator)
    return _total(model, x, t, model.step_cross_entropy(x, z_t, t, cond), centered, pair=False)


def terms_of_single(model: Diffusion, x: Tensor, generator: Randomness, cond: Tensor | None) -> dict[str, Tensor]:
    """Named terms of -KL(q(z_T | x) || p(z_T)) - T cost_t, each (b,), for uniform t and z_t ~ q(z_t | x) (M5)."""
    t = _uniform_steps(model, x, generator)
    cost = model.depth * model.step_cost(x, model.marginal(x, t).sample(generator), t, cond)
    first = t == 1
    return {
        "prior": -model.prior_kl(x),
        "diffusion": -cost.masked_fill(first, 0.0),
        "reconstruction": -cost.masked_fill(~first, 0.0),
    }


def bound_constant(model: Diffusion, x: Tensor) -> Tensor:
    """C(x) = E log p(z_T) + H(q(z_1..z_T | x)) in nats, float64 (b,); it does not depend on parameters (M2)."""
    # the entropy of a thousand steps is about a million nats, which float32 rounds by up to a tenth
    x = precise(x)
    at_t = [model.schedule.at(table, model.depth, x) for table in ("alpha_bar", "noise_var")]
    expected_prior = -model.num_dims * HALF_LOG_2PI - 0.5 * (at_t[0] * sum_event(x.square()) + model.num_dims * at_t[1])
    entropy = model.num_dims * (model.schedule.beta[1:].log() + 2 * HALF_LOG_2PI + 1).sum().item() / 2
    return expected_prior + entropy


def _total(model: Diffusion, x: Tensor, t: Tensor, log_prob: Tensor, centered: bool, pair: bool) -> Tensor:
    """C(x) + sum of the parameter-free parts + T (l_t - its parameter-free part), in nats, (b,)."""
    free, free_sum = _parameter_free(model, t, pair) if centered else (0.0, 0.0)
    constant = bound_constant(model, x)
    return (constant + free_sum + model.depth * (log_prob.to(constant.device) - free)).to(x)


def _parameter_free(model: Diffusion, t: Tensor, pair: bool) -> tuple[Tensor, float]:
    """Return the part of l_t that does not depend on the network, and its sum over all t (M6.5).

    With a learned variance there is no such part. The entropy of q(z_{t-1} | z_t, x) then takes its role, so that
    -KL_t remains. This is valid because any known function of t keeps the mean.
    """
    log_var = model.known_log_var
    free = -0.5 * log_var - HALF_LOG_2PI
    if not pair:
        free = free - 0.5 * model.schedule.beta_tilde * (-log_var).exp()
    if not model.likelihood.is_density:
        free[1] = 0.0
    free = model.num_dims * free
    where = precise_device(t.device)
    return free.to(where)[t.to(where)], free[1:].sum().item()


def _uniform_steps(model: Diffusion, x: Tensor, generator: Randomness) -> Tensor:
    uniform = rand((len(x),), generator, torch.float64, precise_device(x.device))
    return ((uniform * model.depth).long() + 1).to(x.device)
