"""Noise schedules: tables over t = 0..T, in float64, index 0 = data (S35, S37, S54)."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kakusan.checks import numbers
from kakusan.devices import precise_device
from kakusan.errors import InputError, ScheduleWarning, shown
from kakusan.units import bits_per_dim

# prior KL of unit-variance data, in bits/dim, above which a schedule warns
PRIOR_BITS_WORTH_A_WARNING = 0.01


@dataclass(frozen=True, eq=False)
class Schedule:
    """Noise schedule from beta[1..T], 0 < beta < 1; every table is float64 with T + 1 entries.

    q(z_t | z_{t-1}) = N(sqrt(1 - beta_t) z_{t-1}, beta_t I), q(z_t | x) = N(sqrt(alpha_bar_t) x, noise_var_t I).
    """

    beta: Tensor  # (T+1,), beta[0] = 0

    def __post_init__(self):
        table = isinstance(self.beta, Tensor) and self.beta.dtype == torch.float64 and self.beta.dim() == 1
        if not table or len(self.beta) < 2 or self.beta[0] != 0:
            raise InputError(
                "build a schedule with Schedule.cosine(T), Schedule.linear(T), Schedule.sigmoid(T) or "
                f"Schedule.from_betas(betas), got Schedule({' '.join(shown(self.beta).split())})"
            )

    @classmethod
    def from_betas(cls, betas: Tensor | list[float]) -> Schedule:
        """Build a schedule from beta_1, ..., beta_T.

        Raises:
            InputError: If betas is empty, or a beta lies outside (0, 1). The last may be 1: then alpha_bar_T = 0 (zero
                terminal SNR), which suits the predictions x, v and mean.

        Warns:
            ScheduleWarning: If alpha_bar at T is so far from 0 that the prior term is noticeable (S37, E12).
        """
        betas = numbers(betas, "betas", torch.float64).detach().cpu()
        if betas.dim() != 1 or len(betas) < 1:
            raise InputError(f"a schedule needs a list of T >= 1 betas, got shape {tuple(betas.shape)}")
        bad = ~((betas > 0) & (betas < 1))
        bad[-1] &= betas[-1] != 1
        if bad.any():
            t = int(bad.nonzero()[0]) + 1
            raise InputError(f"every beta must lie in (0, 1), got beta_{t} = {betas[t - 1].item():g}")
        schedule = cls(torch.cat([torch.zeros(1, dtype=torch.float64), betas]))
        bits = bits_per_dim(0.5 * schedule.noise_var[-1].log().item(), num_dims=1)
        if bits > PRIOR_BITS_WORTH_A_WARNING:
            left = schedule.alpha_bar[-1].item()
            warnings.warn(
                f"alpha_bar at T = {schedule.depth} is {left:.3g}, far from 0: the prior term costs about {bits:.3g} "
                "bits/dim on data of unit variance; use more steps or larger betas",
                ScheduleWarning,
                stacklevel=3,
            )
        return schedule

    @classmethod
    def linear(cls, depth: int, beta_min: float = 1e-4, beta_max: float = 0.02) -> Schedule:
        """beta_t from beta_min to beta_max in equal steps. Source: Ho, Jain and Abbeel 2020, section 4.

        The default betas fit depth 1000. At depth 100 the chain ends at alpha_bar = 0.36, far from the prior;
        the betas are used as they are, and a warning states the cost.
        """
        _check_depth(depth)
        return cls.from_betas(torch.linspace(beta_min, beta_max, depth, dtype=torch.float64))

    @classmethod
    def cosine(cls, depth: int, offset: float = 0.008, max_beta: float = 0.999) -> Schedule:
        """alpha_bar_t proportional to cos^2((t/T + offset) / (1 + offset) pi/2), beta_t capped at max_beta.

        Source: Nichol and Dhariwal 2021, equation 17.
        """
        _check_depth(depth)
        u = torch.arange(depth + 1, dtype=torch.float64) / depth
        return cls._from_curve(((u + offset) / (1 + offset) * math.pi / 2).cos().square(), max_beta)

    @classmethod
    def sigmoid(
        cls, depth: int, start: float = -3.0, end: float = 3.0, tau: float = 1.0, max_beta: float = 0.999
    ) -> Schedule:
        """alpha_bar_t on a decreasing logistic curve between start and end, rescaled to run from 1 to 0.

        Two published curves have this name. This one is sigmoid(-u / tau) for u from start to end, rescaled;
        `sigmoid_beta` has betas on a logistic curve.

        Source: Jabri, Fleet and Chen 2023, https://arxiv.org/abs/2212.11972, section 2.
        """
        _check_depth(depth)
        if not (start < end and tau > 0):
            raise InputError(f"a sigmoid schedule needs start < end and tau > 0, got {start}, {end}, {tau}")
        u = torch.arange(depth + 1, dtype=torch.float64) / depth
        low, high = torch.tensor([start / tau, end / tau], dtype=torch.float64).sigmoid()
        return cls._from_curve((high - ((start + u * (end - start)) / tau).sigmoid()) / (high - low), max_beta)

    @classmethod
    def sigmoid_beta(cls, depth: int, beta_min: float = 1e-4, beta_max: float = 0.02) -> Schedule:
        """beta_t from beta_min to beta_max on a logistic curve over -6..6, the second schedule called sigmoid.

        Source: Xu et al. 2022, "GeoDiff", https://arxiv.org/abs/2203.02923, in the published code.
        """
        _check_depth(depth)
        curve = torch.linspace(-6, 6, depth, dtype=torch.float64).sigmoid()
        return cls.from_betas(curve * (beta_max - beta_min) + beta_min)

    @classmethod
    def _from_curve(cls, alpha_bar: Tensor, max_beta: float) -> Schedule:
        """Build a schedule from a decreasing curve that may end at 0; the cap keeps the last beta below 1."""
        if not 0 < max_beta < 1:
            raise InputError(f"max_beta must lie in (0, 1), got {max_beta}")
        return cls.from_betas((1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=max_beta))

    @property
    def depth(self) -> int:
        """Number of steps T."""
        return len(self.beta) - 1

    @cached_property
    def _log_alpha_bar(self) -> Tensor:
        return (-self.beta).log1p().cumsum(0)

    @cached_property
    def alpha_bar(self) -> Tensor:
        """prod_{s <= t} (1 - beta_s): the share of signal variance left at t; alpha_bar[0] = 1."""
        return self._log_alpha_bar.exp()

    @cached_property
    def noise_var(self) -> Tensor:
        """1 - alpha_bar, without the cancellation at small t."""
        return 0 - self._log_alpha_bar.expm1()  # 0 - 0 is +0, so that snr[0] is +inf

    @cached_property
    def signal(self) -> Tensor:
        """sqrt(alpha_bar), the factor of x in z_t, computed in float64, where alpha_bar does not underflow."""
        return (0.5 * self._log_alpha_bar).exp()

    @cached_property
    def noise(self) -> Tensor:
        """sqrt(1 - alpha_bar), the factor of eps in z_t."""
        return self.noise_var.sqrt()

    @cached_property
    def snr(self) -> Tensor:
        """alpha_bar / (1 - alpha_bar); snr[0] = inf."""
        return self.alpha_bar / self.noise_var

    @cached_property
    def log_snr(self) -> Tensor:
        """log snr; inf at 0."""
        return self._log_alpha_bar - self.noise_var.log()

    @cached_property
    def beta_tilde(self) -> Tensor:
        """Variance of q(z_{t-1} | z_t, x): beta_t (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t); 0 at t = 1, and at 0."""
        return self._with_zero(self.beta[1:] * self.noise_var[:-1] / self.noise_var[1:])

    @cached_property
    def log_beta(self) -> Tensor:
        """log beta; -inf at 0."""
        return self.beta.log()

    @cached_property
    def log_beta_tilde(self) -> Tensor:
        """log beta_tilde. At t = 1 it has the value of t = 2, because q is a point mass there and a decoder is not (M7)."""
        log_beta_tilde = self.beta_tilde.log()
        log_beta_tilde[1] = log_beta_tilde[2] if self.depth > 1 else self.beta[1].log()
        return log_beta_tilde

    @cached_property
    def mean_coef_x(self) -> Tensor:
        """Weight of x in the mean of q(z_{t-1} | z_t, x): sqrt(alpha_bar_{t-1}) beta_t / (1 - alpha_bar_t)."""
        return self._with_zero(self.alpha_bar[:-1].sqrt() * self.beta[1:] / self.noise_var[1:])

    @cached_property
    def mean_coef_z(self) -> Tensor:
        """Weight of z_t in the mean of q(z_{t-1} | z_t, x): sqrt(1 - beta_t) (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t)."""
        return self._with_zero((1 - self.beta[1:]).sqrt() * self.noise_var[:-1] / self.noise_var[1:])

    @cached_property
    def _on_device(self) -> dict[tuple[str, torch.device], Tensor]:
        return {}

    def at(self, table: str, t: Tensor | int, like: Tensor) -> Tensor:
        """Return entries t of a table, cast to the dtype of `like` and shaped to broadcast over its examples.

        Args:
            table: Name of a table of this class, e.g. "signal".
            t: One step, or int64 of shape (b,).
            like: A batch (b, *event).
        """
        if isinstance(t, int):
            return getattr(self, table)[t].to(like.dtype).to(like.device)
        key = (table, t.device)
        if key not in self._on_device:
            values = getattr(self, table)
            has_float64 = precise_device(t.device) == t.device
            self._on_device[key] = (values if has_float64 else values.float()).to(t.device)
        return self._on_device[key][t].to(like.dtype).view(-1, *(1,) * (like.dim() - 1))

    def respaced(self, times: list[int]) -> Schedule:
        """Return the coarser schedule that visits only 0 < times[0] < ... < times[-1], with the same marginals (S53, S54)."""
        if not times or times != sorted(set(times)) or times[0] < 1 or times[-1] > self.depth:
            raise InputError(f"times must rise within 1..{self.depth}, got {times}")
        log_alpha_bar = self._log_alpha_bar[torch.tensor([0, *times])]
        beta = -(log_alpha_bar[1:] - log_alpha_bar[:-1]).expm1()
        return Schedule(torch.cat([torch.zeros(1, dtype=torch.float64), beta]))

    @staticmethod
    def _with_zero(table: Tensor) -> Tensor:
        return torch.cat([torch.zeros(1, dtype=torch.float64), table])


@dataclass(frozen=True)
class Step:
    """Noise level t of a schedule, z_t = signal x + noise eps; its coefficients broadcast over a batch."""

    schedule: Schedule
    t: Tensor | int
    like: Tensor

    def __getattr__(self, table: str) -> Tensor:
        """An entry of a table of the schedule, e.g. `step.signal`."""
        if table.startswith("__"):
            raise AttributeError(table)
        return self.schedule.at(table, self.t, self.like)


def _check_depth(depth: int) -> None:
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
        raise InputError(f"the number of steps T must be a whole number >= 1, got {depth!r}")
