"""kakusan recipes: list the recipes; imports no torch."""

from __future__ import annotations

from kakusan.cli.arguments import Recipes
from kakusan.console import entry, say
from kakusan.recipes import RECIPES


def main(command: Recipes) -> int:
    """Print each recipe with its model family, data and budget."""
    for recipe in RECIPES.values():
        budget = f"{recipe.steps:,} steps" if recipe.steps is not None else f"{recipe.minutes:g} minutes"
        text = f"{recipe.summary}. Model: {recipe.family}. Data: {recipe.data}. Budget: {budget}."
        say(*entry(recipe.name, text).splitlines())
    say("", "kakusan train RECIPE --help lists all settings of a recipe.")
    return 0
