"""The diffusion model: a hierarchical VAE whose latents are as large as the data and whose encoder is fixed noise.

Those are the two changes (S32, S33). What they buy is a closed form for q(z_t | x) and q(z_{t-1} | z_t, x), and
with it estimates of the same ELBO from T, two, or one drawn latents (M3, M4, M5).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from kakusan.bound import drawn_path
from kakusan.chain import LatentChain
from kakusan.checks import check_event, check_range
from kakusan.distributions import HALF_LOG_2PI, DiscretizedNormal, Distribution, Normal, normal_kl, sum_event
from kakusan.errors import InputError
from kakusan.likelihoods import check_data
from kakusan.models.clusters import Clusters
from kakusan.models.vae import as_shape, reference, standard_normal
from kakusan.noise import Randomness, rand, randn
from kakusan.schedule import Schedule
from kakusan.timesteps import StepLaw

Prediction = Literal["eps", "x", "v", "mean", "score"]
Variance = Literal["unit", "beta", "beta_tilde", "learned"]
DataLikelihood = Literal["gaussian", "discretized"]
Objective = Literal["simple", "path", "pair", "single"]
Denoiser = Callable[..., Tensor | tuple[Tensor, Tensor]]  # of (z_t, t), and of the cluster where there are some
Time = Tensor | int  # int64 of shape (b,) in 1..T, or one step for all examples

HYBRID_BOUND_WEIGHT = 1e-3  # of the bound beside the simple loss when the variance is learned (Nichol, Dhariwal 2021)


class Diffusion(nn.Module, LatentChain):
    """z_t = sqrt(alpha_bar_t) x + sqrt(1 - alpha_bar_t) eps; only denoising is learned, by one network for all t (S34, S38).

    Args:
        denoiser: (z_t, t) -> prediction, shape of z_t; t is int64 (b,) in 1..T. With learned variance it returns
            (prediction, v), v in [0, 1].
        schedule: The noise.
        event_shape: Shape of one example.
        prediction: What the network predicts (M8): the noise "eps", the data "x", "v" = sqrt(alpha_bar) eps -
            sqrt(1 - alpha_bar) x, the "mean" of p(z_{t-1} | z_t) (the notes'), or the "score" -eps / sqrt(1 - alpha_bar).
        variance: Of p(z_{t-1} | z_t) (M7): "unit" (the notes'; a valid, very loose bound and a poor sampler),
            "beta", "beta_tilde" (which takes beta_tilde_2 at t = 1, where beta_tilde is 0), or "learned":
            exp(v log beta + (1 - v) log beta_tilde).
        likelihood: Of the data given z_1 (M10): "gaussian" density, or "discretized" on the 256-level grid of [-1, 1].
        clip: If given, the data estimate is limited to this range inside the model, in the bound as in
            sampling: for data known to lie there, and other data are refused.
        clusters: If given, one chain for each cluster, which are p(x | k): the denoiser is (z_t, t, k) -> prediction, k
            int64 (b,). What is asked about examples finds theirs, samplers draw one for each sample, and `given`
            is the chain of clusters that are known.

    Source: Ho, Jain and Abbeel 2020; theory S32-S58.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        schedule: Schedule,
        event_shape: Sequence[int] | int,
        prediction: Prediction = "eps",
        variance: Variance = "beta",
        likelihood: DataLikelihood = "gaussian",
        clip: tuple[float, float] | None = None,
        clusters: Clusters | None = None,
    ):
        super().__init__()
        for name, value, choices in (
            ("prediction", prediction, Prediction),
            ("variance", variance, Variance),
            ("likelihood", likelihood, DataLikelihood),
        ):
            if value not in get_args(choices):
                raise InputError(f"{name} must be one of {', '.join(get_args(choices))}, got {value!r}")
        if clip is not None and not (len(clip) == 2 and -math.inf < clip[0] < clip[1] < math.inf):
            raise InputError(f"clip must be a finite range (low, high) with low < high, got {clip}; e.g. (-1, 1)")
        if clusters is not None and (
            not isinstance(clusters, Clusters) or clusters.event_shape != as_shape(event_shape)
        ):
            found = tuple(clusters.event_shape) if isinstance(clusters, Clusters) else repr(clusters)
            raise InputError(f"clusters must be kakusan.Clusters of shape {as_shape(event_shape)}, got {found}")
        self.denoiser = denoiser
        self.clusters = clusters
        self.schedule = schedule
        self.depth = schedule.depth
        self.event_shape = as_shape(event_shape)
        self.prediction, self.variance, self.likelihood, self.clip = prediction, variance, likelihood, clip
        self.register_buffer("_zero", torch.zeros(()), persistent=False)
        self._tables: dict[tuple[str, torch.device], Tensor] = {}

    @property
    def num_dims(self) -> int:
        """Scalars in one example."""
        return math.prod(self.event_shape)

    # The chain

    def prior(self) -> Normal:
        return standard_normal(self.event_shape, reference(self))

    def encode(self, z: Tensor, t: int) -> Normal:
        beta = self._at("beta", t, z)
        return Normal.from_var((1 - beta).sqrt() * z, beta)

    def decode(self, z: Tensor, t: int) -> Distribution:
        down = self.reverse(z, t)
        return DiscretizedNormal(down) if t == 1 and self.likelihood == "discretized" else down

    def check(self, x: Tensor) -> None:
        check_data(self.likelihood, x, self.event_shape)
        if self.clip is not None:
            check_range(x, *self.clip)

    # The chains of the clusters

    def given(self, cluster: Tensor) -> Diffusion:
        """p(x | k): the chain of as many examples as there are clusters named, int64 (b,), one of each."""
        if self.clusters is None:
            raise InputError("this model has no clusters to be given; ask it as it is")
        self.clusters.check_named(cluster)
        return self.of_network(_Given(self, cluster), clusters=None)

    def about(self, x: Tensor) -> tuple[Diffusion, Tensor | float]:
        if self.clusters is None:
            return self, 0.0
        cluster = self.clusters.of(x)
        return self.given(cluster), self.clusters.log_prob(cluster).to(x.dtype)

    def drawn(self, n: int, generator: Randomness = None) -> Diffusion:
        return self if self.clusters is None else self.given(self.clusters.draw(n, generator))

    def of_network(self, denoiser: Denoiser, **changes: Any) -> Diffusion:
        """The same chain but for its network, and these arguments of `Diffusion`."""
        own = ("schedule", "event_shape", "prediction", "variance", "likelihood", "clip", "clusters")
        other = Diffusion(denoiser, **{name: getattr(self, name) for name in own} | changes)
        other._zero = self._zero
        if other.schedule is self.schedule:
            other._tables = self._tables  # those on a device are brought there once
        return other

    # The closed forms

    def marginal(self, x: Tensor, t: Time) -> Normal:
        """q(z_t | x) = N(sqrt(alpha_bar_t) x, (1 - alpha_bar_t) I) (S54); t = 0 is a point mass on x."""
        self._check_steps(t, x, lowest=0)
        return Normal.from_var(self._at("alpha_bar", t, x).sqrt() * x, self._at("noise_var", t, x))

    def posterior(self, z_t: Tensor, x: Tensor, t: Time) -> Normal:
        """q(z_{t-1} | z_t, x), Gaussian with variance beta_tilde_t (M5); t = 1 is a point mass on x."""
        self._check_steps(t, x)
        mean = self._at("mean_coef_x", t, x) * x + self._at("mean_coef_z", t, x) * z_t
        return Normal.from_var(mean, self._at("beta_tilde", t, x))

    def prior_kl(self, x: Tensor) -> Tensor:
        """KL(q(z_T | x) || N(0, I)) in nats, shape (b,); it has no parameters (M9)."""
        # In float64 and by log1p: in float32 a good schedule's noise_var rounds to 1, and the KL came out negative.
        alpha_bar = self.schedule.alpha_bar[-1].item()
        left = -math.log1p(-alpha_bar) - alpha_bar
        return 0.5 * (alpha_bar * sum_event(x.square()) + self.num_dims * left)

    # The network's words, translated

    def reverse(self, z_t: Tensor, t: Time) -> Normal:
        """p(z_{t-1} | z_t) as a Gaussian, also at t = 1; one network call."""
        self._check_steps(t, z_t)
        prediction, v = self.predict(z_t, t)
        if self.prediction == "mean" and self.clip is None:
            mean = prediction
        else:
            x_hat = self._data_estimate(z_t, t, prediction)
            mean = self._at("mean_coef_x", t, z_t) * x_hat + self._at("mean_coef_z", t, z_t) * z_t
        return Normal.from_log_var(mean, self._log_var(t, z_t, v))

    def data_estimate(self, z_t: Tensor, t: Time) -> Tensor:
        """The model's guess of x from z_t, shape of z_t; one network call."""
        self._check_steps(t, z_t)
        return self._data_estimate(z_t, t, self.predict(z_t, t)[0])

    def predict(self, z_t: Tensor, t: Time, cluster: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """What the network says of z_t, in the terms of `prediction`, and v if the variance is learned; one call."""
        if self.clusters is not None and cluster is None:
            raise InputError(
                "a model of clusters is asked about those of known ones: model.given(k).data_estimate(z_t, t); "
                "model.about(x)[0] is the chain of these examples, model.drawn(n) that of n samples"
            )
        if self.clusters is None and cluster is not None:
            raise InputError("this model has no clusters, and was told of some; ask it without")
        if isinstance(t, int):
            t = torch.full((len(z_t),), t, device=z_t.device)
        output = self.denoiser(z_t, t) if cluster is None else self.denoiser(z_t, t, cluster)
        if (self.variance == "learned") != isinstance(output, tuple):
            raise InputError(
                "a denoiser returns one tensor, and with variance='learned' a pair (prediction, v); "
                f"got a {type(output).__name__} with variance={self.variance!r}"
            )
        return output if isinstance(output, tuple) else (output, None)

    def _data_estimate(self, z_t: Tensor, t: Time, prediction: Tensor) -> Tensor:
        a, noise_var = self._at("alpha_bar", t, z_t).sqrt(), self._at("noise_var", t, z_t)
        match self.prediction:
            case "x":
                x_hat = prediction
            case "eps":
                x_hat = (z_t - noise_var.sqrt() * prediction) / a
            case "v":
                x_hat = a * z_t - noise_var.sqrt() * prediction
            case "score":
                x_hat = (z_t + noise_var * prediction) / a
            case "mean":
                x_hat = (prediction - self._at("mean_coef_z", t, z_t) * z_t) / self._at("mean_coef_x", t, z_t)
        return self.within_limits(x_hat)

    def within_limits(self, x: Tensor) -> Tensor:
        """x, limited to what the data estimate keeps to."""
        return x if self.clip is None else x.clamp(*self.clip)

    def _target(self, x: Tensor, z_t: Tensor, eps: Tensor, t: Time) -> Tensor:
        """What the network should have said (M8)."""
        a, b = self._at("alpha_bar", t, x).sqrt(), self._at("noise_var", t, x).sqrt()
        match self.prediction:
            case "x":
                return x
            case "eps":
                return eps
            case "v":
                return a * eps - b * x
            case "score":
                return -eps / b
            case "mean":
                return self.posterior(z_t, x, t).mean

    def _log_var(self, t: Time, like: Tensor, v: Tensor | None) -> Tensor:
        match self.variance:
            case "unit":
                return torch.zeros_like(self._at("beta", t, like))
            case "beta":
                return self._at("log_beta", t, like)
            case "beta_tilde":
                return self._at("log_beta_tilde", t, like)
            case "learned":
                assert v is not None, "predict has seen to it"
                return v * self._at("log_beta", t, like) + (1 - v) * self._at("log_beta_tilde", t, like)

    @property
    def known_log_var(self) -> Tensor:
        """log variance of p(z_{t-1} | z_t) as far as no network decides it, float64 (T + 1,); nothing at t = 0.

        For a learned variance its lower end, that of beta_tilde.
        """
        known = {"unit": torch.zeros_like(self.schedule.beta), "beta": self._table("log_beta")}
        return known.get(self.variance, self._table("log_beta_tilde"))

    # Terms of the bound, pure in (x, z_t, t)

    def step_log_prob(self, z_before: Tensor, z_t: Tensor, t: Time) -> Tensor:
        """l_t = log p(z_{t-1} | z_t); nats, (b,). One network call."""
        return self._with_likelihood(z_before, t, down := self.reverse(z_t, t), down.log_prob(z_before))

    def step_cross_entropy(self, x: Tensor, z_t: Tensor, t: Time) -> Tensor:
        """E[l_t | z_t, x]: l_t with z_{t-1} integrated out under q(z_{t-1} | z_t, x) (M5); nats, (b,). One call."""
        down, q = self.about(x)[0].reverse(z_t, t), self.posterior(z_t, x, t)
        return self._with_likelihood(x, t, down, -down.cross_entropy(q.mean, q.var))

    def step_cost(self, x: Tensor, z_t: Tensor, t: Time) -> Tensor:
        """-log p(x | z_1) at t = 1, KL(q(z_{t-1} | z_t, x) || p(z_{t-1} | z_t)) above; nats, (b,). One call.

        ELBO(x) = -prior_kl(x) - sum_t E step_cost_t (M5, KL form), and with clusters + log p(k).
        """
        return self._cost(x, z_t, t, self.about(x)[0].reverse(z_t, t))

    def _cost(self, x: Tensor, z_t: Tensor, t: Time, down: Normal) -> Tensor:
        first = torch.as_tensor(t, device=x.device).expand(len(x)) == 1
        later = torch.where(first, 2, torch.as_tensor(t, device=x.device))  # q is a point mass at 1
        q = self.posterior(z_t, x, later if self.depth > 1 else 1)
        kl = normal_kl(q, down) if self.depth > 1 else torch.zeros_like(first, dtype=x.dtype)
        return torch.where(first, -self._with_likelihood(x, t, down, down.log_prob(x)), kl)

    def _with_likelihood(self, value: Tensor, t: Time, down: Normal, log_prob: Tensor) -> Tensor:
        """log_prob, but for a discretised likelihood with the probability of the level where t = 1."""
        if self.likelihood == "gaussian":
            return log_prob
        first = torch.as_tensor(t, device=value.device).expand(len(value)) == 1
        if not first.any():
            return log_prob
        std, log_var = down.std.expand_as(down.mean), down.log_var.expand_as(down.mean)
        rows = DiscretizedNormal(Normal(down.mean[first], std[first], log_var[first]))
        return log_prob.masked_scatter(first, rows.log_prob(value[first]).to(log_prob.dtype))

    def bound_constant(self, x: Tensor) -> Tensor:
        """C(x) of ELBO = J + C (M2): E log p(z_T) plus the entropy of q(z_1..z_T | x); nats, float64 (b,)."""
        # the entropy of a thousand steps is a million nats: float32 would round the bound by a tenth
        x = x.double()
        alpha_bar, noise_var = self._at("alpha_bar", self.depth, x), self._at("noise_var", self.depth, x)
        expected_prior = -self.num_dims * HALF_LOG_2PI - 0.5 * (
            alpha_bar * sum_event(x.square()) + self.num_dims * noise_var
        )
        entropy = self.num_dims * (self.schedule.beta[1:].log() + 2 * HALF_LOG_2PI + 1).sum().item() / 2
        return expected_prior + entropy

    # One bound, three prices

    def elbo_path(self, x: Tensor, generator: Randomness = None) -> Tensor:
        """ELBO estimate from one whole path: T drawn latents, T network calls (S48-S51, M3); nats, (b,)."""
        self.check(x)
        return self._from_path(x, generator)

    def _from_path(self, x: Tensor, generator: Randomness) -> Tensor:
        path = drawn_path(self, x, generator)
        chain, log_share = self.about(x)
        total = self.bound_constant(x) + log_share  # float64, as the sum of T terms of either sign
        for t in range(1, self.depth + 1):
            total = total + chain.step_log_prob(path[t - 1], path[t], t)
        return total.to(x.dtype)

    def elbo_pair(self, x: Tensor, generator: Randomness = None, centred: bool = True) -> Tensor:
        """ELBO estimate from two neighbouring latents at one random t: one call (S56, M4); nats, (b,).

        Args:
            x: (b, *event).
            generator: Source of t and of the two independent noises.
            centred: Sum the parameter-free part over all t exactly instead of at the drawn t (M6.5):
                the same mean, less variance.
        """
        self.check(x)
        return self._from_pair(x, generator, centred)

    def _from_pair(self, x: Tensor, generator: Randomness, centred: bool = True) -> Tensor:
        t = self._draw_times(x, generator)
        z_before = self.marginal(x, t - 1).sample(generator)
        beta = self._at("beta", t, x)
        z_t = Normal.from_var((1 - beta).sqrt() * z_before, beta).sample(generator)
        free, free_sum = self._parameter_free(t, x, pair=True) if centred else (0.0, 0.0)
        chain, log_share = self.about(x)
        drawn = self.depth * (chain.step_log_prob(z_before, z_t, t) - free)
        bound = self.bound_constant(x) + log_share + free_sum + drawn
        return bound.to(x.dtype)

    def elbo_single(self, x: Tensor, generator: Randomness = None, centred: bool = True) -> Tensor:
        """ELBO estimate from one latent at one random t: one call (S57, M5); nats, (b,). Arguments as `elbo_pair`."""
        self.check(x)
        return self._from_single(x, generator, centred)

    def _from_single(self, x: Tensor, generator: Randomness, centred: bool = True) -> Tensor:
        t = self._draw_times(x, generator)
        z_t = self.marginal(x, t).sample(generator)
        free, free_sum = self._parameter_free(t, x, pair=False) if centred else (0.0, 0.0)
        chain, log_share = self.about(x)
        drawn = self.depth * (chain.step_cross_entropy(x, z_t, t) - free)
        bound = self.bound_constant(x) + log_share + free_sum + drawn
        return bound.to(x.dtype)

    def _parameter_free(self, t: Tensor, x: Tensor, pair: bool) -> tuple[Tensor, float]:
        """The part of the t-th term that no network moves, and its sum over all t.

        With a learned variance nothing is parameter-free; the entropy of q(z_{t-1} | z_t, x) then stands in,
        which leaves -KL_t: any known function of t keeps the mean.
        """
        log_var = self.known_log_var
        free = -0.5 * log_var - HALF_LOG_2PI
        if not pair:
            free = free - 0.5 * self.schedule.beta_tilde * (-log_var).exp()
        if self.likelihood == "discretized":
            free[1] = 0.0
        free = self.num_dims * free
        return free.to(t.device)[t], free[1:].sum().item()

    def _draw_times(self, x: Tensor, generator: Randomness) -> Tensor:
        uniform = rand((len(x),), generator, torch.float64, x.device)
        return (uniform * self.depth).long() + 1

    # Training

    def loss(
        self,
        x: Tensor,
        generator: Randomness = None,
        objective: Objective = "simple",
        law: StepLaw | None = None,
    ) -> Tensor:
        """What training minimises, for each example, in units of the data's dimensions, shape (b,).

        "simple" is the squared error of what the network predicts, with t from `law`, all alike unless given: for
        eps the loss of Ho et al. 2020, equation 14, another objective than the bound with the same minimiser
        over unrestricted functions (K7). With a learned variance, 1e-3 of the bound is added, without a gradient
        into the mean. "path", "pair" and "single" are minus the ELBO estimates.
        """
        check_event(x, self.event_shape)
        match objective:
            case "path":
                return -self._from_path(x, generator) / self.num_dims
            case "pair":
                return -self._from_pair(x, generator) / self.num_dims
            case "single":
                return -self._from_single(x, generator) / self.num_dims
            case "simple":
                return self._simple_loss(x, generator, law or StepLaw.uniform(self.depth))
        raise InputError(f"objective must be one of {', '.join(get_args(Objective))}, got {objective!r}")

    def _simple_loss(self, x: Tensor, generator: Randomness, law: StepLaw) -> Tensor:
        t = law.draw(len(x), generator, x.device)
        eps = randn(x.shape, generator, x.dtype, x.device)
        z_t = self._at("alpha_bar", t, x).sqrt() * x + self._at("noise_var", t, x).sqrt() * eps
        prediction, v = self.about(x)[0].predict(z_t, t)
        loss = sum_event((prediction - self._target(x, z_t, eps, t)).square())
        if v is not None:
            x_hat = self._data_estimate(z_t, t, prediction.detach())
            mean = self._at("mean_coef_x", t, x) * x_hat + self._at("mean_coef_z", t, x) * z_t
            down = Normal.from_log_var(mean, self._log_var(t, x, v))
            loss = loss + HYBRID_BOUND_WEIGHT * self._cost(x, z_t, t, down) / law.prob(t).to(x.dtype)
        return loss / self.num_dims

    # Fewer steps

    def respaced(self, steps: int | Sequence[int]) -> Diffusion:
        """The same denoiser on a coarser chain: of so many evenly chosen steps, T among them, or of the steps named.

        It is a diffusion model of its own: it can be sampled, and its bound evaluated.
        """
        if isinstance(steps, int):
            if not 1 <= steps <= self.depth:
                raise InputError(f"steps must lie in 1..{self.depth}, the model's own number, got {steps}")
            steps = [round(self.depth * k / steps) for k in range(1, steps + 1)]
        times = list(steps)
        schedule = self.schedule.respaced(times)
        if len(times) == self.depth:
            return self
        return self.of_network(_Respaced(self, times), schedule=schedule, prediction="x", clip=None)

    @property
    def finest(self) -> tuple[Diffusion, list[int]]:
        """The chain that this one was respaced from, and which of its steps t = 0..T of this one are."""
        if isinstance(self.denoiser, _Given):
            finest, times = self.denoiser.model.finest
            return finest.given(self.denoiser.cluster), times
        if not isinstance(self.denoiser, _Respaced):
            return self, list(range(self.depth + 1))
        finest, times = self.denoiser.model.finest
        return finest, [times[t] for t in self.denoiser.times.tolist()]

    # Tables

    def _check_steps(self, t: Time, z: Tensor, lowest: int = 1) -> None:
        """InputError unless z has the model's shape and t lies in lowest..T; a tensor on a device is not asked."""
        check_event(z, self.event_shape, "z")
        if isinstance(t, int):
            right, found = lowest <= t <= self.depth, str(t)
        elif t.dtype != torch.int64 or t.shape not in ((), (1,), z.shape[:1]):
            raise InputError(
                f"t must be a step, or int64 of shape ({len(z)},), one for each example; got {t.dtype} {tuple(t.shape)}"
            )
        elif t.device.type != "cpu" or not t.numel():
            return
        else:
            least, most = (int(end) for end in t.aminmax())
            right, found = lowest <= least <= most <= self.depth, str(least if least < lowest else most)
        if not right:
            raise InputError(f"steps t must lie in {lowest}..{self.depth}, got {found}")

    def _at(self, name: str, t: Time, like: Tensor) -> Tensor:
        """Entry t of a table, computed in float64 and then cast, shaped to broadcast over examples."""
        if isinstance(t, int):
            return self._table(name)[t].to(like)
        key = (name, t.device)
        if key not in self._tables:
            self._tables[key] = self._table(name).to(t.device)
        return self._tables[key][t].to(like.dtype).view(-1, *(1,) * (like.dim() - 1))

    def _table(self, name: str) -> Tensor:
        match name:
            case "log_beta":
                return self.schedule.beta.log()
            case "log_beta_tilde":
                log_beta_tilde = self.schedule.beta_tilde.log()
                # At t = 1 the posterior is a point mass, and a decoder needs a density: beta_tilde_2 stands in (M7).
                log_beta_tilde[1] = log_beta_tilde[2] if self.depth > 1 else self.schedule.beta[1].log()
                return log_beta_tilde
        return getattr(self.schedule, name)


class _Respaced(nn.Module):
    """Speaks the coarser chain's times to a model that knows its own, and answers with the data estimate."""

    def __init__(self, model: Diffusion, times: list[int]):
        super().__init__()
        self.model = model
        where = reference(model).device  # so that a call brings nothing there
        self.register_buffer("times", torch.tensor([0, *times], device=where), persistent=False)

    def forward(self, z_t: Tensor, t: Tensor, cluster: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        own = self.times.to(t.device)[t]
        prediction, v = self.model.predict(z_t, own, cluster)
        x_hat = self.model._data_estimate(z_t, own, prediction)
        return x_hat if v is None else (x_hat, v)


class _Given(nn.Module):
    """(z_t, t) -> what a model of clusters says where example i is of the i-th of these."""

    def __init__(self, model: Diffusion, cluster: Tensor):
        super().__init__()
        self.model, self.cluster = model, cluster

    def forward(self, z_t: Tensor, t: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        if len(z_t) != len(self.cluster):
            raise InputError(f"this chain is of {len(self.cluster)} examples, one for each cluster; got {len(z_t)}")
        prediction, v = self.model.predict(z_t, t, self.cluster)
        return prediction if v is None else (prediction, v)
