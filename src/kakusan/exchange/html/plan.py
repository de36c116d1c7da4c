"""Steps of a solver as coefficients: z_s = c_z z_t + sum_k c_k x_k + c_n noise.

A solver with one evaluation per step is linear in z, in its estimates of x and in fresh noise. So the solver itself runs
once on the unit vectors of that space, and its results are the coefficients. The page needs no solver of its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kakusan.errors import InputError
from kakusan.models.diffusion import Diffusion
from kakusan.schedule import Step
from kakusan.solvers.base import Solver, levels

NEGLIGIBLE = 1e-12  # coefficients below this are 0; values lie in [-1, 1]


REFUSAL = "the page supports only solvers that are linear in one evaluation per step; choose another --sampler"


class _Unit:
    """Substitute for the denoiser, whose every evaluation returns the unit vector of its step."""

    def __init__(self, num_steps: int):
        self.num_steps = num_steps
        self.basis = torch.eye(num_steps + 2, dtype=torch.float64)  # z_t, noise, then the estimate of x at each step
        self.place = 0
        self.evaluations = 0

    def __call__(self, z: Tensor, level: Any = None) -> Tensor:
        self.evaluations += 1
        if level is not None or self.evaluations > 1 or not torch.equal(z, self.basis[:1]):
            raise InputError(REFUSAL)
        return self.basis[self.place + 2][None]

    def reverse(self, z: Tensor) -> Any:
        """Raise InputError, because a learned variance is not linear."""
        raise InputError(REFUSAL)


def steps_of(chain: Diffusion, solver: Solver, times: list[int], guided: list[bool]) -> list[dict[str, Any]]:
    """Return the steps of a solver from noise to data.

    Args:
        chain: The chain, for its levels and its parametrization.
        solver: A solver with one evaluation per step.
        times: Increasing timesteps, as `solvers.times` gives them.
        guided: For each t, whether the weaker network is evaluated.

    Returns:
        One table per step: "t"; "guided"; "from_z" and "from_output", which give x from the prediction; "z", "x" (newest
        first) and "noise", the coefficients of the next latent.
    """
    table, denoise, state = levels(chain.schedule), _Unit(len(times)), solver.init()
    steps = []
    for place, (t, s) in enumerate(zip(reversed(times), [*reversed(times[:-1]), 0])):
        denoise.place, denoise.evaluations = place, 0
        z, state = solver.step(denoise, denoise.basis[:1], table[t], table[s], state, lambda _: denoise.basis[1:2])  # type: ignore[arg-type]
        row = [0.0 if abs(value) < NEGLIGIBLE else value for value in z[0].tolist()]
        x = row[2 : place + 3][::-1]
        while len(x) > 1 and x[-1] == 0:
            x.pop()
        from_z, from_output = parametrized(chain, t)
        steps.append(
            {"t": t, "guided": guided[t], "from_z": from_z, "from_output": from_output, "z": row[0], "x": x, "noise": row[1],
             "log_snr": 2 * table[t].half_log_snr}
        )  # fmt: skip
    return steps


def parametrized(chain: Diffusion, t: int) -> tuple[float, float]:
    """Return the coefficients of z_t and of the network's output in the estimate of x, which is linear in both."""
    zero, one = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    step = Step(chain.schedule, t, one)
    x_hat = chain.parametrization.x_hat
    return x_hat(zero, one, step).item(), x_hat(one, zero, step).item()
