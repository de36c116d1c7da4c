"""Inversion of deterministic sampling, from an example to its latent z_T."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from kakusan.checks import check_event
from kakusan.errors import InputError
from kakusan.models.diffusion import Diffusion
from kakusan.solvers.base import Denoise, Solver
from kakusan.solvers.time_grid import checked_times


@torch.no_grad()
def invert(chain: Diffusion, x: Tensor, solver: Solver, times: Sequence[int], *, cond: Tensor | None = None) -> Tensor:
    """Map examples to latents at the level max(times) by the steps of a deterministic solver in reverse order.

    This integrates the probability-flow equation of the chain, with an error of the solver's order. It starts at
    min(times) with sqrt(alpha_bar) x, so min(times) should be a low noise level.

    Args:
        chain: The diffusion chain.
        x: Examples in model values, (b, *event).
        solver: A solver without fresh noise, e.g. `DDIM()` or `Heun()`.
        times: Different steps in 1..T, in any order.
        cond: Condition of each example.

    Returns:
        Latents at max(times) in the shape of x; `solve` with the same solver and times returns approximately x.

    Source: Song, Meng and Ermon 2021, https://arxiv.org/abs/2010.02502, equation 14.

    Raises:
        InputError: If the solver draws noise.
    """
    chain.validate(x, cond)
    check_event(x, chain.event_shape)
    steps = checked_times(times, chain.depth)
    denoise, state = Denoise(chain, cond, steps), solver.init()

    def refuse(like: Tensor) -> Tensor:
        raise InputError(
            f"only a solver without fresh noise can be inverted, got {solver!r}; give 'ddim', 'heun' or 'dpm++2m'"
        )

    if len(steps) > 1:  # two steps down show if the solver draws noise; in a step up its variance would be negative
        top, below = denoise.levels[steps[-1]], denoise.levels[steps[-2]]
        probe = Denoise(chain, None if cond is None else cond[:1], steps)
        probe.begin(top)
        z, state_below = solver.step(probe, x[:1], top, below, state, refuse)
        probe.begin(below)
        solver.step(probe, z, below, denoise.levels[0], state_below, refuse)
    z = denoise.levels[steps[0]].signal * x
    for t, s in itertools.pairwise(steps):
        begin = denoise.levels[t]
        denoise.begin(begin)
        z, state = solver.step(denoise, z, begin, denoise.levels[s], state, refuse)
    return z
