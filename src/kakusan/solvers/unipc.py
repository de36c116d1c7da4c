"""UniPC, which predicts z_s from known estimates and corrects it with the estimate at the predicted point."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, NamedTuple

from kakusan.settings import Between, check
from kakusan.solvers.adams import Known, adams_weights, exponential_step

if TYPE_CHECKING:
    from torch import Tensor

    from kakusan.solvers.base import Denoise, Level, Noise


class State(NamedTuple):
    """Known estimates, newest first."""

    known: tuple[Known, ...]


@dataclass(frozen=True)
class UniPC:
    """UniPC with a predictor of order p from p estimates and a corrector, which together have order p + 1.

    Each step takes one network evaluation: the estimate at a predicted latent corrects that step, and the next step uses
    it too. The first steps have fewer estimates and a lower order. The last step returns the data estimate.

    Source: Zhao et al. 2023, https://arxiv.org/abs/2302.04867, algorithms 5 to 8, with data prediction. Here all
    conditions on the weights are solved exactly, so the function B(h) of the paper cancels.
    """

    predictor_order: Annotated[int, Between(1, 3)] = 2
    """Number of estimates that the predictor uses."""

    def __post_init__(self):
        check(self, "unipc")

    @property
    def order(self) -> int:
        """Order of convergence, that of the predictor plus one."""
        return self.predictor_order + 1

    def init(self) -> State:
        """Return the initial state, which has no estimates."""
        return State(())

    def step(self, denoise: Denoise, z: Tensor, t: Level, s: Level, state: State, noise: Noise) -> tuple[Tensor, State]:
        """Return the corrected z_s, and the estimates for the next step."""
        known = state.known or ((t, denoise(z)),)
        if s.is_data:
            return known[0][1], state
        predicted = exponential_step(z, t, s, known, adams_weights)
        found = (s, denoise(predicted, s))
        z = exponential_step(z, t, s, (found, *known), adams_weights)
        return z, State((found, *known)[: self.predictor_order])


unipc_2 = functools.partial(UniPC, predictor_order=2)
unipc_3 = functools.partial(UniPC, predictor_order=3)
