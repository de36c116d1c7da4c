"""The sampling loop, shared by all solvers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kakusan.bound import ancestral_sample
from kakusan.chain import LatentChain
from kakusan.checks import check_cond, check_event
from kakusan.errors import InputError
from kakusan.models.clusters import Classes
from kakusan.models.diffusion import Diffusion
from kakusan.models.mixture import WithClass, split
from kakusan.noise import Randomness, example_streams, randn
from kakusan.parallel import by_rows
from kakusan.progress import progress
from kakusan.solvers import solver_named
from kakusan.solvers.base import Denoise, Level, Solver
from kakusan.solvers.time_grid import checked_times
from kakusan.solvers.time_grid import times as grid

BATCH = 250  # samples at a time
DEFAULT_STEPS = 20
DEFAULT_SOLVER = "dpm++2m-sde"
DEFAULT_SPACING = "karras"


@dataclass(frozen=True)
class SolverStep:
    """One step of the loop, the argument of a callback.

    Attributes:
        number: Number of the step; 1 is the first, from noise.
        t, s: Levels at which the step begins and ends.
        z_t, z_s: Latents at t and s, (b, *event).
        x_hat: The data estimate at t, from z_t. For UniPC after its first step, and for Heun with churn, it is from a
            predicted latent.
    """

    number: int
    t: Level
    s: Level
    z_t: Tensor
    z_s: Tensor
    x_hat: Tensor

    def __repr__(self) -> str:
        return f"SolverStep({self.number}: t = {self.t.index} to {self.s.index}, latents {tuple(self.z_t.shape)})"


Callback = Callable[[SolverStep], None]


@torch.no_grad()
def solve(
    chain: Diffusion,
    z: Tensor,
    solver: Solver,
    times: Sequence[int],
    *,
    cond: Tensor | None = None,
    randomness: Randomness = None,
    callback: Callback | None = None,
) -> Tensor:
    """Solve from latents z at the level max(times) to the data.

    Args:
        chain: The diffusion chain.
        z: Latents at level max(times), (b, *event).
        solver: The solver.
        times: Different steps in 1..T, in any order.
        cond: Condition of each example.
        randomness: Random generator of fresh noise, or one per example.
        callback: Called after each step.

    Returns:
        Estimates of x in the shape of z.
    """
    check_event(z, chain.event_shape, "z")
    steps = checked_times(times, chain.depth)
    denoise, state = Denoise(chain, cond, steps), solver.init()

    def noise(like: Tensor) -> Tensor:
        return randn(like.shape, randomness, like.dtype, like.device)

    pairs = list(zip(reversed(steps), [*reversed(steps[:-1]), 0]))
    for number, (t, s) in enumerate(progress(pairs, "sampling"), start=1):
        begin, end = denoise.levels[t], denoise.levels[s]
        denoise.begin(begin)
        z_t = z
        z, state = solver.step(denoise, z_t, begin, end, state, noise)
        if callback is not None:
            callback(SolverStep(number, begin, end, z_t, z, denoise.estimates.get(t, z)))
    return z


def sample(
    chain: LatentChain,
    n: int | None = None,
    *,
    z: Tensor | None = None,
    solver: Solver | str | None = None,
    steps: int | None = None,
    times: Sequence[int] | None = None,
    cond: Tensor | int | None = None,
    seed: int = 0,
    callback: Callback | None = None,
    spacing: str | None = None,
    end_log_snr: float | None = None,
    first: int = 0,
) -> Tensor:
    """Draw examples from any chain; example i depends on (seed, first + i) alone, and not on n or the batch size.

    Args:
        chain: A diffusion model, a mixture of them, or any other `LatentChain`.
        n: Number of examples; default: the length of z or cond.
        z: Latents from which to start instead of n draws from the prior; with `times` they are at level max(times).
        solver: A solver, or its name in `kakusan.solvers.SOLVERS`; diffusion only; default: "dpm++2m-sde".
        steps: Number of steps; diffusion only; default: 20, or T if smaller.
        times: The steps themselves, different numbers in 1..T; replaces `steps` and `spacing`.
        cond: Condition of each example, or one class index for all; by default a mixture draws classes.
        seed: Random seed.
        callback: Called after each step of each batch of 250 with a `SolverStep`; diffusion only.
        spacing: "karras" (default), "log-snr" or "uniform"; diffusion only.
        end_log_snr: Log-SNR at which the grid of steps ends, see `kakusan.solvers.times`.
        first: Index of the first example.

    Returns:
        Examples (n, *event) on the model's device; for diffusion models, the estimates of x in the last step.

    Raises:
        InputError: If arguments do not fit each other or the chain.
    """
    n = _number(n, z, cond)
    inner, classes = split(chain)
    cond = _cond(cond, n, classes)
    choices = {"solver": solver, "steps": steps, "times": times, "spacing": spacing, "end_log_snr": end_log_snr}
    plan = _plan(inner, choices | {"callback": callback})
    parts = []
    for start in progress(range(0, n, BATCH), "sampling"):
        rows = slice(start, min(start + BATCH, n))
        streams = example_streams(seed, range(first + rows.start, first + rows.stop))
        known = None if cond is None else cond[rows].to(_device(inner))
        if plan is None:
            start_at = None if z is None else z[rows] if classes is None else WithClass(z[rows], _needed(known))
            parts.append(ancestral_sample(chain, len(streams), streams, cond=known, z=start_at))
            continue
        if known is None and classes is not None:
            known = classes.draw(len(streams), streams).to(_device(inner))
        begin = inner.prior(known).expand(len(streams)).sample(streams) if z is None else z[rows]
        parts.append(
            _on_cores(functools.partial(solve, inner, solver=plan[0], times=plan[1]), begin, known, streams, callback)
        )
    return torch.cat(parts) if parts else ancestral_sample(chain, 0, [], cond=cond)


def _on_cores(
    solve: Callable[..., Tensor],
    z: Tensor,
    cond: Tensor | None,
    streams: list[torch.Generator],
    callback: Callback | None,
) -> Tensor:
    """Call `solve` on parts of the batch, one per core, or on the whole batch if there is a callback."""
    if callback is not None:
        return solve(z, cond=cond, randomness=streams, callback=callback)
    return by_rows(lambda z, cond, streams: solve(z, cond=cond, randomness=streams), z, cond, streams)


def _cond(cond: Tensor | int | None, n: int, classes: Classes | None) -> Tensor | None:
    """Return the condition of each of n examples; InputError if it does not fit."""
    if isinstance(cond, int):
        cond = torch.full((n,), cond)
    check_cond(cond, n)
    if classes is not None and cond is not None:
        classes.validate(cond)
    return cond


def _needed(cond: Tensor | None) -> Tensor:
    if cond is None:
        raise InputError("latents of a mixture need their classes; pass cond=, int64 of shape (n,)")
    return cond


def _plan(chain: LatentChain, given: dict[str, Any]) -> tuple[Solver, Sequence[int]] | None:
    """Solver and steps for a diffusion chain; None for a chain that samples in one pass."""
    if not isinstance(chain, Diffusion):
        wrong = [name for name, value in given.items() if value is not None]
        if wrong:
            raise InputError(
                f"{', '.join(wrong)}: only for diffusion models; a {type(chain).__name__} samples in one pass"
            )
        return None
    solver, times = given["solver"], given["times"]
    if solver is None or isinstance(solver, str):
        solver = solver_named(solver or DEFAULT_SOLVER)
    if isinstance(solver, type) or not hasattr(solver, "step"):
        raise InputError(f"solver must be a name or a solver, got {solver!r}; e.g. 'ddim' or kakusan.solvers.DDIM()")
    if times is None:
        num_steps = min(DEFAULT_STEPS, chain.depth) if given["steps"] is None else given["steps"]
        times = grid(chain.schedule, num_steps, given["spacing"] or DEFAULT_SPACING, given["end_log_snr"])
    return solver, times


def _number(n: int | None, z: Tensor | None, cond: Any) -> int:
    """Return the number of examples; InputError if the arguments disagree on it."""
    lengths = {len(value) for value in (z, cond) if isinstance(value, Tensor) and value.dim() > 0}
    if n is None and lengths:
        n = max(lengths)
    if n is None:
        raise InputError("the number of samples is missing; give n, or z or cond with a row for each sample")
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        raise InputError(f"the number of samples must be a whole number, 0 or more, got {n!r}")
    if lengths - {n}:
        raise InputError(f"{n} samples need z and cond of that length, got {', '.join(map(str, sorted(lengths)))}")
    return n


def _device(chain: LatentChain) -> torch.device:
    return chain.prior().mean.device
