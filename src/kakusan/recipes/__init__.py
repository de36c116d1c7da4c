"""Complete experiments by name. A new one is a file here and a line in `kakusan.run.recipe.RECIPES`."""

from __future__ import annotations

from kakusan.run.recipe import RECIPES, Recipe


def find(name: str) -> Recipe:
    """Return a recipe by its name; for an unknown name, an InputError suggests the nearest one."""
    return RECIPES[name]


__all__ = ["RECIPES", "find"]
