"""VAE for the rows of a table, initialized as the best linear model; about one minute on one CPU core."""

from kakusan.run.families.tables import TableConfig
from kakusan.run.recipe import Recipe
from kakusan.training.settings import Optim

RECIPE = Recipe(
    name="tables",
    summary="VAE for tables with real, integer and categorical columns and missing values",
    model=TableConfig(),
    data="table.csv",
    optim=Optim(lr=1e-3, weight_decay=0.1, batch=128, ema=0.1),
    steps=1000,
)
