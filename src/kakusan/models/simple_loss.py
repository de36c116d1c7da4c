"""The simple loss of diffusion models: the squared error of the network's prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from kakusan.distributions import sum_event
from kakusan.noise import Randomness, randn
from kakusan.schedule import Step
from kakusan.timesteps import StepLaw

if TYPE_CHECKING:
    from kakusan.models.diffusion import Diffusion

# Nichol and Dhariwal apply the weight 1e-3 to the bound in bits. Here the bound is in nats, so its weight is 1.44 times less.
HYBRID_BOUND_WEIGHT = 1e-3


def simple_loss(model: Diffusion, x: Tensor, generator: Randomness, law: StepLaw, cond: Tensor | None) -> Tensor:
    """Squared error |prediction(z_t, t) - target|^2 / num_dims with t drawn from `law`, shape (b,).

    For the prediction eps this is equation 14 of Ho, Jain and Abbeel 2020, https://arxiv.org/abs/2006.11239. It differs
    from the bound and has the same minimizer over unrestricted functions (K7). With a learned variance, 1e-3 times the
    bound in nats is added, without a gradient into the mean. This is the hybrid loss of Nichol and Dhariwal 2021,
    https://arxiv.org/abs/2102.09672, equation 16, where the bound is in bits.
    """
    t = law.draw(len(x), generator, x.device)
    eps = randn(x.shape, generator, x.dtype, x.device)
    z_t = model.schedule.at("signal", t, x) * x + model.schedule.at("noise", t, x) * eps
    prediction, v = model.predict(z_t, t, cond)
    target = model.parametrization.target(x, z_t, eps, Step(model.schedule, t, x))
    loss = sum_event((prediction - target).square())
    if v is not None:
        down = model.reverse_of(model.x_from(prediction.detach(), z_t, t), z_t, t, v)
        loss = loss + HYBRID_BOUND_WEIGHT * model.cost_of(down, x, z_t, t) / law.prob(t).to(x)
    return loss / model.num_dims
