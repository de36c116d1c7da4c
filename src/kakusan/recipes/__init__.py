"""Complete experiments by name. A new one is a file here and a line in `kakusan.run.recipe.RECIPES`."""

from __future__ import annotations

from kakusan.run.recipe import RECIPES, Recipe


def find(name: str) -> Recipe:
    """A recipe by its name; InputError names the nearest."""
    return RECIPES[name]


__all__ = ["RECIPES", "find"]
