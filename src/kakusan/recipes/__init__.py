"""Complete experiments by name. A new one is a file here and a line in RECIPES."""

from __future__ import annotations

import difflib

from kakusan.errors import InputError
from kakusan.recipes import (
    binary_best,
    binary_iwae,
    counts_dirichlet,
    mnist_ddpm,
    mnist_few,
    mnist_hvae,
    mnist_transformer,
    mnist_vae,
)
from kakusan.run.recipe import Recipe

RECIPES: dict[str, Recipe] = {
    module.RECIPE.name: module.RECIPE
    for module in (
        mnist_ddpm,
        mnist_few,
        mnist_transformer,
        mnist_vae,
        mnist_hvae,
        binary_iwae,
        binary_best,
        counts_dirichlet,
    )
}


def find(name: str) -> Recipe:
    """A recipe by its name; InputError names the nearest."""
    if name in RECIPES:
        return RECIPES[name]
    near = difflib.get_close_matches(name, RECIPES, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else "there is none like it."
    raise InputError(f"no recipe {name!r}; {hint} There are: {', '.join(RECIPES)}")
