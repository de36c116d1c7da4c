"""Optimization of a loss: the loop, optimizers, averages, precision, checkpoints, several processes.

The package is also the function `kakusan.train`: Python sets a package's attribute to the submodule of that name as
soon as it is imported, so the submodule itself must be callable.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class _CallableModule(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Train a recipe, see `kakusan.run.trained_run.train`."""
        return importlib.import_module("kakusan.run.trained_run").train(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
