"""Sampling of a trained diffusion model: guidance, solver and steps, with the defaults of its recipe."""

from __future__ import annotations

import functools
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from kakusan.bound import ancestral_sample
from kakusan.chain import LatentChain
from kakusan.errors import InputError, shown
from kakusan.guidance import classifier_free, guided
from kakusan.models.diffusion import Diffusion
from kakusan.models.mixture import Mixture, split
from kakusan.noise import example_streams
from kakusan.run.recipe import Recipe
from kakusan.solvers import Solver
from kakusan.solvers.loop import DEFAULT_SOLVER, DEFAULT_SPACING, DEFAULT_STEPS, Callback, sample
from kakusan.solvers.time_grid import times

STUDENT_SOLVER, STUDENT_SPACING = "renoise", "uniform"


@dataclass(frozen=True)
class SamplingPolicy:
    """Defaults of sampling for a diffusion model.

    Attributes:
        model: The chain, possibly a mixture.
        weaker: The same chain with weights from early in the run, if they were kept.
        recipe: The settings.
    """

    model: Diffusion | Mixture
    weaker: Diffusion | Mixture | None
    recipe: Recipe

    solver: ClassVar[str] = DEFAULT_SOLVER  # name of the default solver
    default_steps: ClassVar[int] = DEFAULT_STEPS
    default_spacing: ClassVar[str] = DEFAULT_SPACING

    @property
    def denoisers(self) -> list[nn.Module]:
        """Return the networks that sampling evaluates, including the weaker one of guidance."""
        return [split(chain)[0].denoiser for chain in (self.model, self.weaker) if chain is not None]

    @property
    def evaluations_per_sample(self) -> int:
        """Return the largest number of network evaluations per sample with default settings."""
        return len(self.times()) * len(self.denoisers)

    def sampler(
        self,
        *,
        solver: Solver | str | None,
        guidance: float | None,
        autoguidance: float | None = None,
        callback: Callback | None = None,
        **grid: Any,
    ) -> Callable[..., Tensor]:
        """Return `kakusan.sample` with chain, solver and steps set; arguments as in `TrainedModel.sample`."""
        chosen = {"solver": solver or self.solver, "times": self.times(**grid), "callback": callback}
        return functools.partial(sample, self.chain(guidance, autoguidance), **chosen)

    @property
    def has_null(self) -> bool:
        """Return whether the model was trained with label dropout, so that classifier-free guidance is possible."""
        classes = split(self.model)[1]
        return classes is not None and classes.null is not None and self.recipe.distil is None

    def chain(self, guidance: float | None = None, autoguidance: float | None = None) -> Diffusion | Mixture:
        """Return the chain to sample from: with autoguidance, by default at the recipe's weight.

        For a model of labels, `guidance` is the scale of additional classifier-free guidance.
        """
        _check_numbers(guidance=guidance, autoguidance=autoguidance)
        if self.has_null:
            config: Any = self.recipe.model
            chain: Any = self._autoguided(autoguidance)
            return classifier_free(chain, 1.0 if guidance is None else guidance, config.guidance_range)
        if guidance is not None and autoguidance is not None and guidance != autoguidance:
            raise InputError(
                f"without labels, guidance is the same as autoguidance, got {guidance:g} and {autoguidance:g}; give one"
            )
        return self._autoguided(guidance if autoguidance is None else autoguidance)

    def _autoguided(self, guidance: float | None) -> Diffusion | Mixture:
        config: Any = self.recipe.model
        if self.weaker is not None:
            weight = config.guidance if guidance is None else guidance
            return guided(self.model, self.weaker, weight, config.guidance_range)
        if guidance not in (None, 1):
            raise InputError(
                f"guidance {guidance} needs weights from early in the run, and this run kept none; "
                "omit it, or train with --optim.early 0.1"
            )
        return self.model

    def times(
        self, steps: int | None = None, spacing: str | None = None, end_log_snr: float | None = None
    ) -> list[int]:
        """Return the timesteps that sampling visits; arguments as in `TrainedModel.sample`."""
        _check_numbers(end_log_snr=end_log_snr)
        config: Any = self.recipe.model
        schedule = split(self.model)[0].schedule
        num_steps = min(self.default_steps, schedule.depth) if steps is None else steps
        end = config.end_log_snr if end_log_snr is None else end_log_snr
        return times(schedule, num_steps, spacing or self.default_spacing, end)

    def warning(self, solver: str | None, steps: int | None) -> str | None:
        """Return a caution if the solver of students is used on another model, otherwise None."""
        if solver != STUDENT_SOLVER:
            return None
        return f"{STUDENT_SOLVER} is for distilled students: samples of other models vary less than their data; omit it"


class StudentPolicy(SamplingPolicy):
    """Defaults of sampling for a distilled student: one step. Each further step starts from fresh noise."""

    solver = STUDENT_SOLVER
    default_steps = 1
    default_spacing = STUDENT_SPACING

    def warning(self, solver: str | None, steps: int | None) -> str | None:
        """Return a caution about steps for which the student was not trained, otherwise None."""
        if steps in (None, 1):
            return None
        return f"a student is trained for --steps 1; {steps} steps use noise levels that it was not trained at"


@dataclass(frozen=True)
class OnePass:
    """Sampling of a model without solver steps.

    Attributes:
        model: The chain.
        recipe: The settings.
        mean_output: Return the mean of p(x | z_1) instead of a draw.
    """

    model: LatentChain
    recipe: Recipe
    mean_output: bool
    solver: ClassVar[str] = DEFAULT_SOLVER  # appears in errors only
    denoisers: ClassVar[list[nn.Module]] = []
    evaluations_per_sample: ClassVar[int] = 1

    def sampler(self, **options: Any) -> Callable[..., Tensor]:
        """Return a function of n, first, seed and cond that samples; InputError for an option of diffusion models."""
        if any(value is not None for value in options.values()):
            *names, last = options
            raise InputError(
                f"{', '.join(names)} and {last} are for diffusion models; {self.recipe.name} samples in one pass"
            )

        def draw(n: int, *, first: int, seed: int, cond: Tensor | None) -> Tensor:
            streams = example_streams(seed, range(first, first + n))
            return ancestral_sample(self.model, n, streams, cond=cond, mean_output=self.mean_output)

        return draw

    def warning(self, solver: str | None, steps: int | None) -> None:
        """Return None, because such sampling has no steps."""


def _check_numbers(**given: Any) -> None:
    """Raise InputError for a value that is neither None nor a number."""
    for name, value in given.items():
        if value is not None and not isinstance(value, numbers.Real):
            raise InputError(f"{name} must be a number, got {shown(value)}")
