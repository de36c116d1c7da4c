"""kakusan recipes: what can be trained. No torch."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from kakusan.cli.arguments import Recipes
from kakusan.recipes import RECIPES


def main(command: Recipes) -> int:
    """Print a table."""
    table = Table(box=None, pad_edge=False)
    for heading in ("recipe", "model", "data", "budget", "what it is"):
        table.add_column(heading, overflow="fold")
    for recipe in RECIPES.values():
        budget = f"{recipe.steps:,} steps" if recipe.steps is not None else f"{recipe.minutes:g} min"
        table.add_row(recipe.name, recipe.family, recipe.data, budget, recipe.summary)
    Console().print(table)
    print("\nkakusan train RECIPE --help shows every setting of one.")
    return 0
