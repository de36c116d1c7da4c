"""From noise to data in K steps. A sampler is a function of (model, n, randomness); `catalogue` lists them by name."""

from kakusan.samplers.ancestral import ancestral
from kakusan.samplers.catalogue import SAMPLER_ORDERS, SAMPLERS, Sampler, sampler
from kakusan.samplers.ddim import ddim, ddim_steps
from kakusan.samplers.dpm_solver import dpm_solver_2m, dpm_solver_3m
from kakusan.samplers.dpm_solver_sde import dpm_solver_2m_sde
from kakusan.samplers.heun import heun
from kakusan.samplers.renoise import renoise
from kakusan.samplers.spacing import Spacing, times
from kakusan.samplers.unipc import unipc_2, unipc_3

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
