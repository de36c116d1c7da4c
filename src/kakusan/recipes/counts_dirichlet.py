"""Dirichlet-multinomial model, for which gradient ascent on the ELBO converges to gamma = x + alpha."""

from kakusan.run.families.dirichlet import DirichletConfig
from kakusan.run.recipe import Recipe
from kakusan.training.settings import Optim

RECIPE = Recipe(
    name="counts-dirichlet",
    summary="Dirichlet-multinomial model for counts, compared with its exact posterior",
    model=DirichletConfig(),
    data="mnist-labels",
    optim=Optim(lr=0.1, weight_decay=0.0, warmup=0, clip=None, batch=1000, ema=0.0),
    steps=2000,
)
