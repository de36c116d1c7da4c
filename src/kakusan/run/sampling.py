"""Sampling of a trained diffusion model: guidance, solver and steps, with the defaults of its recipe."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from kakusan.errors import InputError
from kakusan.guidance import guided
from kakusan.models.diffusion import Diffusion
from kakusan.models.mixture import Mixture, split
from kakusan.run.recipe import Recipe
from kakusan.solvers import Solver
from kakusan.solvers.loop import DEFAULT_SOLVER, DEFAULT_SPACING, DEFAULT_STEPS, sample
from kakusan.solvers.time_grid import times

STUDENT_SOLVER, STUDENT_SPACING = "renoise", "uniform"


@dataclass(frozen=True)
class SamplingPolicy:
    """Defaults of sampling for a diffusion model.

    Attributes:
        model: The chain, perhaps a mixture.
        weaker: The same chain with weights from early in the run, if they were kept.
        recipe: The settings.
    """

    model: Diffusion | Mixture
    weaker: Diffusion | Mixture | None
    recipe: Recipe

    @property
    def is_student(self) -> bool:
        """True if the model was distilled."""
        return self.recipe.distil is not None

    @property
    def solver(self) -> str:
        """Name of the default solver."""
        return STUDENT_SOLVER if self.is_student else DEFAULT_SOLVER

    @property
    def denoisers(self) -> list[nn.Module]:
        """The networks that sampling evaluates, the guide's among them."""
        return [split(chain)[0].denoiser for chain in (self.model, self.weaker) if chain is not None]

    @property
    def evaluations_per_sample(self) -> int:
        """Network evaluations of a sample by default, at most."""
        return len(self.times()) * len(self.denoisers)

    def sampler(self, *, solver: Solver | str | None, guidance: float | None, **grid: Any) -> Callable[..., Tensor]:
        """`kakusan.sample` with this chain, solver and steps; arguments as in `TrainedModel.sample`."""
        times = self.times(**grid)
        return functools.partial(sample, self.chain(guidance), solver=solver or self.solver, times=times)

    def chain(self, guidance: float | None = None) -> Diffusion | Mixture:
        """The chain that samples come from: guided by the early weights, with the recipe's weight by default."""
        config: Any = self.recipe.model
        if self.weaker is not None:
            weight = config.guidance if guidance is None else guidance
            return guided(self.model, self.weaker, weight, config.guidance_range)
        if guidance not in (None, 1):
            raise InputError(
                f"guidance {guidance} needs weights from early in the run, and this run kept none; "
                "leave it out, or train with --optim.early 0.1"
            )
        return self.model

    def times(
        self, steps: int | None = None, spacing: str | None = None, end_log_snr: float | None = None
    ) -> list[int]:
        """The timesteps that sampling visits; arguments as in `TrainedModel.sample`."""
        config: Any = self.recipe.model
        schedule = split(self.model)[0].schedule
        default = (1, STUDENT_SPACING) if self.is_student else (DEFAULT_STEPS, DEFAULT_SPACING)
        num_steps = min(default[0], schedule.depth) if steps is None else steps
        end = config.end_log_snr if end_log_snr is None else end_log_snr
        return times(schedule, num_steps, spacing or default[1], end)

    def warning(self, solver: str | None, steps: int | None) -> str | None:
        """A caution about such samples: a student at steps it was not trained for, or its solver on another model."""
        if self.is_student:
            if steps in (None, 1):
                return None
            return f"a student is trained for --steps 1; {steps} steps use noise levels that it was not trained at"
        if solver != STUDENT_SOLVER:
            return None
        return f"{STUDENT_SOLVER} is for distilled students: samples of other models vary less than their data; leave it out"
