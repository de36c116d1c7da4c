"""From noise to data in K steps. A sampler is a function of (model, n, randomness); `catalogue` lists them by name."""

from kakusan.solvers.ancestral import ancestral
from kakusan.solvers.catalogue import SAMPLER_ORDERS, SAMPLERS, Sampler, sampler
from kakusan.solvers.ddim import ddim, ddim_steps
from kakusan.solvers.dpm_solver import dpm_solver_2m, dpm_solver_3m
from kakusan.solvers.dpm_solver_sde import dpm_solver_2m_sde
from kakusan.solvers.heun import heun
from kakusan.solvers.renoise import renoise
from kakusan.solvers.spacing import Spacing, times
from kakusan.solvers.unipc import unipc_2, unipc_3

__all__ = [
    "SAMPLERS",
    "SAMPLER_ORDERS",
    "Sampler",
    "Spacing",
    "ancestral",
    "ddim",
    "ddim_steps",
    "dpm_solver_2m",
    "dpm_solver_2m_sde",
    "dpm_solver_3m",
    "heun",
    "renoise",
    "sampler",
    "times",
    "unipc_2",
    "unipc_3",
]
