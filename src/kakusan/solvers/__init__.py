"""Solvers, which take latents from noise to data in K steps. A new one is a file here and a line in SOLVERS.

This package imports no torch, so that the command line can list solvers and their options quickly.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

from kakusan.errors import InputError
from kakusan.registry import Registry, lazy_names

if TYPE_CHECKING:
    from kakusan.solvers.ancestral import Ancestral
    from kakusan.solvers.base import Denoise, Level, Solver
    from kakusan.solvers.ddim import DDIM
    from kakusan.solvers.dpm_solver import DPMSolver
    from kakusan.solvers.heun import Heun
    from kakusan.solvers.loop import SolverStep, sample, solve
    from kakusan.solvers.renoise import Renoise
    from kakusan.solvers.time_grid import times
    from kakusan.solvers.unipc import UniPC

SOLVERS = Registry(
    "solver",
    {
        "ancestral": "kakusan.solvers.ancestral:Ancestral",
        "ddim": "kakusan.solvers.ddim:DDIM",
        "dpm++2m": "kakusan.solvers.dpm_solver:dpm_2m",
        "dpm++3m": "kakusan.solvers.dpm_solver:dpm_3m",
        "dpm++2m-sde": "kakusan.solvers.dpm_solver:dpm_2m_sde",
        "heun": "kakusan.solvers.heun:Heun",
        "renoise": "kakusan.solvers.renoise:Renoise",
        "unipc-2": "kakusan.solvers.unipc:unipc_2",
        "unipc-3": "kakusan.solvers.unipc:unipc_3",
    },
)

_HOMES = {
    "Ancestral": "ancestral",
    "DDIM": "ddim",
    "DPMSolver": "dpm_solver",
    "Denoise": "base",
    "Heun": "heun",
    "Level": "base",
    "Renoise": "renoise",
    "Solver": "base",
    "SolverStep": "loop",
    "UniPC": "unipc",
    "sample": "loop",
    "solve": "loop",
    "times": "time_grid",
}
__all__ = [
    "DDIM",
    "SOLVERS",
    "Ancestral",
    "DPMSolver",
    "Denoise",
    "Heun",
    "Level",
    "Renoise",
    "Solver",
    "SolverStep",
    "UniPC",
    "sample",
    "solve",
    "solver_named",
    "solver_options",
    "times",
]


__getattr__, __dir__ = lazy_names(__name__, _HOMES, __all__)


def solver_options(name: str) -> dict[str, dataclasses.Field]:
    """Options of a solver by their names: the fields of its class that the solver's name does not fix."""
    factory = SOLVERS[name]
    fixed = factory.keywords if isinstance(factory, functools.partial) else {}
    kind: Any = factory.func if isinstance(factory, functools.partial) else factory
    return {field.name: field for field in dataclasses.fields(kind) if field.name not in fixed}


def all_options() -> list[str]:
    """Names of the options of all solvers."""
    return list(dict.fromkeys(option for name in SOLVERS for option in solver_options(name)))


def solver_named(name: str, **options: Any) -> Solver:
    """Build a solver by its name in `SOLVERS`; options that are None keep their default.

    Raises:
        InputError: For an unknown name, an option that this solver lacks, or a value outside its range.
    """
    factory, known = SOLVERS[name], solver_options(name)
    given = {key: value for key, value in options.items() if value is not None}
    for key in given:
        if key not in known:
            able = [other for other in SOLVERS if key in solver_options(other)]
            raise InputError(
                f"{key} is an option of {', '.join(able) or 'no solver'}, and {name} does not have it; "
                f"choose another solver or omit {key}"
            )
    return factory(**given)
