"""The samplers by name, and what each promises. A new one is a file and a line in each of the tables here."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable

from torch import Tensor

from kakusan.errors import InputError
from kakusan.models.diffusion import Diffusion
from kakusan.noise import Randomness
from kakusan.solvers.ancestral import ancestral
from kakusan.solvers.ddim import ddim
from kakusan.solvers.dpm_solver import dpm_solver_2m, dpm_solver_3m
from kakusan.solvers.dpm_solver_sde import dpm_solver_2m_sde
from kakusan.solvers.heun import heun
from kakusan.solvers.renoise import renoise
from kakusan.solvers.unipc import unipc_2, unipc_3

Sampler = Callable[[Diffusion, int, Randomness], Tensor]

SAMPLERS: dict[str, Sampler] = {
    "ancestral": ancestral,
    "ddim": ddim,
    "dpm++2m": dpm_solver_2m,
    "dpm++3m": dpm_solver_3m,
    "dpm++2m-sde": dpm_solver_2m_sde,
    "heun": heun,
    "renoise": renoise,
    "unipc-2": unipc_2,
    "unipc-3": unipc_3,
}
# With K steps and a perfect network the law of the samples differs from where infinitely many steps lead by order
# 1 / K^this, in steps that shrink evenly everywhere in the log signal-to-noise ratio. "renoise" is not among them: a
# perfect denoiser is not the network that it is made for.
SAMPLER_ORDERS: dict[str, int] = {
    "ancestral": 1,
    "ddim": 1,
    "dpm++2m": 2,
    "dpm++3m": 3,
    "dpm++2m-sde": 2,
    "heun": 2,
    "unipc-2": 3,
    "unipc-3": 4,
}


def sampler(name: str, **settings: float | None) -> Sampler:
    """A sampler by its name, with its own settings; those that are None are left to it.

    Raises:
        InputError: Naming those that exist, or a setting that this one does not have.
    """
    if name not in SAMPLERS:
        raise InputError(f"no sampler {name!r}; there are {', '.join(SAMPLERS)}")
    given = {key: value for key, value in settings.items() if value is not None}
    for key in given:
        able = [other for other, function in SAMPLERS.items() if key in inspect.signature(function).parameters]
        if name not in able:
            raise InputError(f"{key} is a setting of {', '.join(able) or 'no sampler'}; {name} has none of that name")
    return functools.partial(SAMPLERS[name], **given) if given else SAMPLERS[name]
