"""The diffusion model: a hierarchical VAE whose latents are as large as the data and whose encoder is fixed noise.

These two changes (S32, S33) give closed forms for q(z_t | x) and q(z_{t-1} | z_t, x). With these, the ELBO can be
estimated from T, two or one drawn latents (M3, M4, M5).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from kakusan.chain import LatentChain
from kakusan.checks import check_cond, check_event, check_range, check_steps, check_together
from kakusan.distributions import Distribution, Normal, normal_kl, standard_normal, sum_event
from kakusan.errors import InputError
from kakusan.likelihoods import as_likelihood
from kakusan.likelihoods.base import Likelihood
from kakusan.models import elbo_estimators as estimators
from kakusan.models.networks import as_denoiser, as_shape, denoiser_output, evaluate, reference
from kakusan.models.parametrization import PREDICTIONS, Parametrization, check_last_step
from kakusan.models.respaced import Respaced
from kakusan.models.simple_loss import simple_loss
from kakusan.models.wrapped import Wrapped
from kakusan.noise import Randomness
from kakusan.schedule import Schedule, Step
from kakusan.timesteps import StepLaw

Variance = Literal["unit", "beta", "beta_tilde", "fixed_large", "learned"]
Objective = Literal["simple", "path", "pair", "single"]
Denoiser = Callable[..., Any]  # called as denoiser(z_t, t) or denoiser(z_t, t, cond)
Time = Tensor | int  # int64 of shape (b,) in 1..T, or one step for all examples


class Diffusion(nn.Module, LatentChain):
    """Diffusion model with z_t = sqrt(alpha_bar_t) x + sqrt(1 - alpha_bar_t) eps (S34).

    Only denoising is learned, by one network for all t (S38).

    Args:
        denoiser: Network from (z_t, t) to a prediction in the shape of z_t; t is int64 (b,) in 1..T. With cond it is
            called as (z_t, t, cond). With learned variance it returns (prediction, v), v in [0, 1]. Pass the module
            itself, because `kakusan.fit` cannot train a function that calls modules.
        schedule: Noise tables.
        event_shape: Shape of one example; an int is the length of a vector.
        prediction: The network's output (M8): the noise "eps" (default), the data "x", "v" = sqrt(alpha_bar) eps -
            sqrt(1 - alpha_bar) x, the "mean" of p(z_{t-1} | z_t), or the "score" -eps / sqrt(1 - alpha_bar).
        variance: Variance of p(z_{t-1} | z_t) (M7): "beta" (default), "beta_tilde" (with beta_tilde_2 at t = 1,
            where beta_tilde is 0), "fixed_large" (beta, with beta_tilde_2 at t = 1 as in the published DDPM code;
            beta at t = 1 costs 0.1 to 0.2 bits/dim more on images), "learned" (exp(v log beta + (1 - v) log beta_tilde)),
            or "unit" (a valid, very loose bound and a poor sampler).
        likelihood: Distribution of the data given z_1 (M10): "gaussian" (default) density, "discretized" on the
            256-level grid of [-1, 1], or a `Likelihood`.
        clip: Range to which the data estimate is clamped, in the bound as in sampling. Data outside it are refused.

    Raises:
        InputError: For an unknown choice, or a prediction that does not suit the schedule.

    Source: Ho, Jain and Abbeel 2020, https://arxiv.org/abs/2006.11239; theory S32-S58.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        schedule: Schedule,
        event_shape: Sequence[int] | int,
        prediction: str = "eps",
        variance: Variance = "beta",
        likelihood: str | Likelihood = "gaussian",
        clip: tuple[float, float] | None = None,
    ):
        super().__init__()
        if not isinstance(schedule, Schedule):
            raise InputError(
                f"schedule must be a kakusan.Schedule, got {schedule!r}; e.g. kakusan.Schedule.cosine(1000)"
            )
        if variance not in get_args(Variance):
            raise InputError(f"variance must be one of {', '.join(get_args(Variance))}, got {variance!r}")
        if clip is not None and not (len(clip) == 2 and -math.inf < clip[0] < clip[1] < math.inf):
            raise InputError(f"clip must be a finite range (low, high) with low < high, got {clip}; e.g. (-1, 1)")
        self.denoiser = as_denoiser(denoiser, schedule.depth)
        self.schedule = schedule
        self.depth = schedule.depth
        self.event_shape = as_shape(event_shape)
        self.prediction = prediction
        self.parametrization: Parametrization = PREDICTIONS[prediction]()
        self.variance, self.likelihood, self.clip = variance, as_likelihood(likelihood), clip
        self.register_buffer("_zero", torch.zeros(()), persistent=False)
        check_last_step(prediction, self.parametrization, schedule, self.clip)

    @classmethod
    def wrap(
        cls, module: nn.Module, schedule: Schedule, event_shape: Sequence[int] | int, *, prediction: str,
        first: int, time_scale: float = 1.0, learned_range: bool = False, **choices: Any,
    ) -> Diffusion:  # fmt: skip
        """Return a chain around a network of another library.

        See `Wrapped` for `first`, `time_scale` and `learned_range`, and `Diffusion` for the other arguments.
        """
        choices |= {"prediction": prediction, **({"variance": "learned"} if learned_range else {})}
        return cls(Wrapped(module, first, time_scale, learned_range), schedule, event_shape, **choices)

    @property
    def num_dims(self) -> int:
        """Number of scalars in one example."""
        return math.prod(self.event_shape)

    # The chain

    def prior(self, cond: Tensor | None = None) -> Normal:
        """Return N(0, I)."""
        return standard_normal(self.event_shape, reference(self))

    def encode(self, z: Tensor, t: int, cond: Tensor | None = None) -> Normal:
        """Return q(z_t | z_{t-1}) = N(sqrt(1 - beta_t) z_{t-1}, beta_t I)."""
        check_steps(t, z, self.event_shape, self.depth)
        beta = self.schedule.at("beta", t, z)
        return Normal.from_var((1 - beta).sqrt() * z, beta)

    def decode(self, z: Tensor, t: int, cond: Tensor | None = None) -> Distribution:
        """Return p(z_{t-1} | z_t), a Gaussian; for t = 1 the likelihood p(x | z_1)."""
        down = self.reverse(z, t, cond)
        return self.likelihood.of_normal(down) if t == 1 else down

    def validate(self, x: Tensor, cond: Tensor | None = None) -> None:
        """Check that x has the model's shape, and values that the likelihood and `clip` allow."""
        self.likelihood.validate(x, self.event_shape)
        if self.clip is not None:
            check_range(x, *self.clip)
        check_cond(cond, len(x))

    # The closed forms of the encoder

    def marginal(self, x: Tensor, t: Time) -> Normal:
        """Return q(z_t | x) = N(sqrt(alpha_bar_t) x, (1 - alpha_bar_t) I) (S54); for t = 0 a point mass at x."""
        check_steps(t, x, self.event_shape, self.depth, lowest=0)
        return Normal.from_var(self.schedule.at("signal", t, x) * x, self.schedule.at("noise_var", t, x))

    def posterior(self, z_t: Tensor, x: Tensor, t: Time) -> Normal:
        """Return q(z_{t-1} | z_t, x) = N(coef_x x + coef_z z_t, beta_tilde_t I) (M5); for t = 1 a point mass at x."""
        check_together(x, z_t, self.event_shape)
        check_steps(t, x, self.event_shape, self.depth)
        mean = self.schedule.at("mean_coef_x", t, x) * x + self.schedule.at("mean_coef_z", t, x) * z_t
        return Normal.from_var(mean, self.schedule.at("beta_tilde", t, x))

    def prior_kl(self, x: Tensor) -> Tensor:
        """KL(q(z_T | x) || N(0, I)) in nats, shape (b,); it does not depend on parameters (M9)."""
        check_event(x, self.event_shape)
        # float64 and log1p, because in float32 noise_var rounds to 1 and the KL would be negative
        alpha_bar = self.schedule.alpha_bar[-1].item()
        left = -math.log1p(-alpha_bar) - alpha_bar
        return 0.5 * (alpha_bar * sum_event(x.square()) + self.num_dims * left)

    # The reverse model

    def predict(self, z_t: Tensor, t: Time, cond: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the network's prediction, and v if the variance is learned; InputError for a wrong type or shape."""
        check_event(z_t, self.event_shape, "z_t")
        if isinstance(t, int):
            t = torch.full((len(z_t),), t, device=z_t.device)
        output = evaluate(self.denoiser, z_t, t, cond=cond)
        bounded = getattr(self.denoiser, "bounded", True)
        return denoiser_output(output, z_t, self.variance == "learned", bounded)

    def data_estimate(self, z_t: Tensor, t: Time, cond: Tensor | None = None) -> Tensor:
        """Estimate x from z_t with one network evaluation; returns the shape of z_t."""
        check_steps(t, z_t, self.event_shape, self.depth)
        return self.x_from(self.predict(z_t, t, cond)[0], z_t, t)

    def x_from(self, prediction: Tensor, z_t: Tensor, t: Time) -> Tensor:
        """Convert a prediction at z_t to an estimate of x, clamped to `clip`."""
        return self.clamp(self.parametrization.x_hat(prediction, z_t, Step(self.schedule, t, z_t)))

    def clamp(self, x: Tensor) -> Tensor:
        """Clamp values to `clip`."""
        return x if self.clip is None else x.clamp(*self.clip)

    def reverse(self, z_t: Tensor, t: Time, cond: Tensor | None = None) -> Normal:
        """Return p(z_{t-1} | z_t) as a Gaussian, also for t = 1, with one network evaluation."""
        check_steps(t, z_t, self.event_shape, self.depth)
        prediction, v = self.predict(z_t, t, cond)
        if self.prediction == "mean" and self.clip is None:
            return Normal.from_log_var(prediction, self._log_var(t, z_t, v))
        return self.reverse_of(self.x_from(prediction, z_t, t), z_t, t, v)

    def reverse_of(self, x_hat: Tensor, z_t: Tensor, t: Time, v: Tensor | None) -> Normal:
        """Return p(z_{t-1} | z_t) = N(coef_x x_hat + coef_z z_t, variance) for a given estimate of x."""
        mean = self.schedule.at("mean_coef_x", t, z_t) * x_hat + self.schedule.at("mean_coef_z", t, z_t) * z_t
        return Normal.from_log_var(mean, self._log_var(t, z_t, v))

    def _log_var(self, t: Time, like: Tensor, v: Tensor | None) -> Tensor:
        if self.variance == "learned":
            assert v is not None, "predict has checked it"
            return v * self.schedule.at("log_beta", t, like) + (1 - v) * self.schedule.at("log_beta_tilde", t, like)
        if isinstance(t, int):
            return self.known_log_var[t].to(like.dtype).to(like.device)
        if self.variance in ("beta", "beta_tilde"):
            return self.schedule.at(f"log_{self.variance}", t, like)
        return self.known_log_var.to(like.dtype).to(t.device)[t].view(-1, *(1,) * (like.dim() - 1))

    @property
    def known_log_var(self) -> Tensor:
        """Log-variance of p(z_{t-1} | z_t) without a network, float64 (T + 1,); log beta_tilde if it is learned."""
        match self.variance:
            case "unit":
                return torch.zeros_like(self.schedule.beta)
            case "beta":
                return self.schedule.log_beta
            case "fixed_large":
                log_var = self.schedule.log_beta.clone()
                log_var[1] = self.schedule.log_beta_tilde[1]
                return log_var
        return self.schedule.log_beta_tilde

    # Terms of the bound, as deterministic functions of x, z_t and t

    def step_log_prob(self, z_before: Tensor, z_t: Tensor, t: Time, cond: Tensor | None = None) -> Tensor:
        """l_t = log p(z_{t-1} | z_t) in nats, (b,), with one network evaluation."""
        check_together(z_before, z_t, self.event_shape, ("z_{t-1}", "z_t"))
        down = self.reverse(z_t, t, cond)
        return self._with_likelihood(z_before, t, down, down.log_prob(z_before))

    def step_cross_entropy(self, x: Tensor, z_t: Tensor, t: Time, cond: Tensor | None = None) -> Tensor:
        """E[l_t | z_t, x] in nats, (b,): l_t averaged over z_{t-1} ~ q(z_{t-1} | z_t, x) (M5)."""
        q, down = self.posterior(z_t, x, t), self.reverse(z_t, t, cond)
        return self._with_likelihood(x, t, down, -down.cross_entropy(q.mean, q.var))

    def step_cost(self, x: Tensor, z_t: Tensor, t: Time, cond: Tensor | None = None) -> Tensor:
        """Cost of step t in nats, (b,): KL(q(z_{t-1} | z_t, x) || p(z_{t-1} | z_t)), or -log p(x | z_1) for t = 1.

        It takes one network evaluation, and ELBO(x) = -prior_kl(x) - sum_t E[step_cost_t] (M5, KL form).
        """
        return self.cost_of(self.reverse(z_t, t, cond), x, z_t, t)

    def cost_of(self, down: Normal, x: Tensor, z_t: Tensor, t: Time) -> Tensor:
        """`step_cost` for a given p(z_{t-1} | z_t)."""
        check_together(x, z_t, self.event_shape)
        first = torch.as_tensor(t, device=x.device).expand(len(x)) == 1
        later = torch.where(first, 2, torch.as_tensor(t, device=x.device))  # for t = 1, q is a point mass
        q = self.posterior(z_t, x, later if self.depth > 1 else 1)
        kl = normal_kl(q, down) if self.depth > 1 else torch.zeros_like(first, dtype=x.dtype)
        return torch.where(first, -self._with_likelihood(x, t, down, down.log_prob(x)), kl)

    def _with_likelihood(self, value: Tensor, t: Time, down: Normal, log_prob: Tensor) -> Tensor:
        """Return log_prob with its values for t = 1 replaced by log p(x | z_1), unless this is the same Gaussian."""
        if self.likelihood.of_normal(down) is down:
            return log_prob
        first = torch.as_tensor(t, device=value.device).expand(len(value)) == 1
        if not first.any():
            return log_prob
        std, log_var = down.std.expand_as(down.mean), down.log_var.expand_as(down.mean)
        rows = self.likelihood.of_normal(Normal(down.mean[first], std[first], log_var[first]))
        return log_prob.masked_scatter(first, rows.log_prob(value[first]).to(log_prob.dtype))

    # Three estimators of one ELBO

    def elbo_path(self, x: Tensor, generator: Randomness = None, *, cond: Tensor | None = None) -> Tensor:
        """ELBO estimate in nats, (b,), from one whole path: T latents, T network evaluations (S48-S51, M3)."""
        self.validate(x, cond)
        return estimators.from_path(self, x, generator, cond)

    def elbo_pair(
        self, x: Tensor, generator: Randomness = None, centered: bool = True, *, cond: Tensor | None = None
    ) -> Tensor:
        """ELBO estimate in nats, (b,), from two neighboring latents at one random t, with one evaluation (S56, M4).

        `centered` sums the parameter-free part over all t exactly (M6.5), which keeps the mean and lowers the variance.
        """
        self.validate(x, cond)
        return estimators.from_pair(self, x, generator, centered, cond)

    def elbo_single(
        self, x: Tensor, generator: Randomness = None, centered: bool = True, *, cond: Tensor | None = None
    ) -> Tensor:
        """ELBO estimate in nats, (b,), from one latent at one random t, with one evaluation (S57, M5).

        One draw is far too noisy to compare single examples; use `TrainedModel.score_samples`.
        """
        self.validate(x, cond)
        return estimators.from_single(self, x, generator, centered, cond)

    def draw_terms(self, x: Tensor, cond: Tensor | None = None, generator: Randomness = None) -> dict[str, Tensor]:
        """Terms in nats, each (b,), whose sum is an unbiased ELBO estimate from one latent at one random t (M5)."""
        check_event(x, self.event_shape)
        return estimators.terms_of_single(self, x, generator, cond)

    # Training

    def loss(
        self,
        x: Tensor,
        generator: Randomness = None,
        objective: Objective = "simple",
        law: StepLaw | None = None,
        *,
        cond: Tensor | None = None,
    ) -> Tensor:
        """Loss of each example divided by the number of dimensions of x, shape (b,).

        Args:
            x: Data, (b, *event).
            generator: Random generator for t and the noise.
            objective: "simple" (default, see `models.simple_loss`), or "path", "pair" or "single" for minus that
                ELBO estimate.
            law: Timestep distribution of the simple loss; default: uniform.
            cond: Condition, or None.

        Raises:
            InputError: For an unknown objective, or x of another shape.
        """
        check_event(x, self.event_shape)
        match objective:
            case "simple":
                return simple_loss(self, x, generator, law or StepLaw.uniform(self.depth), cond)
            case "path":
                return -estimators.from_path(self, x, generator, cond) / self.num_dims
            case "pair":
                return -estimators.from_pair(self, x, generator, True, cond) / self.num_dims
            case "single":
                return -estimators.from_single(self, x, generator, True, cond) / self.num_dims
        raise InputError(f"objective must be one of {', '.join(get_args(Objective))}, got {objective!r}")

    # Derived chains

    def with_network(self, denoiser: Denoiser, **changes: Any) -> Diffusion:
        """Return a copy of the chain with another network and with `changes` to arguments of `Diffusion`."""
        own = ("schedule", "event_shape", "prediction", "variance", "likelihood", "clip")
        other = Diffusion(denoiser, **{name: getattr(self, name) for name in own} | changes)
        other._zero = self._zero
        return other

    def respaced(self, steps: int | Sequence[int]) -> Diffusion:
        """Return a coarser chain with the same denoiser, on evenly spaced steps that include T, or on listed steps.

        The result is a separate diffusion model that can be sampled and whose bound can be evaluated.

        Source: Nichol and Dhariwal 2021, https://arxiv.org/abs/2102.09672, section 4.
        """
        if isinstance(steps, int):
            if not 1 <= steps <= self.depth:
                raise InputError(f"steps must lie in 1..{self.depth}, the model's own number, got {steps}")
            steps = [round(self.depth * k / steps) for k in range(1, steps + 1)]
        times = list(steps)
        schedule = self.schedule.respaced(times)
        if len(times) == self.depth:
            return self
        return self.with_network(Respaced(self, times), schedule=schedule, prediction="x", clip=None)
