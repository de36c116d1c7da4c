"""Transformer for 8-bit digits on a GPU, with patches of 2 pixels and 230 times the operations of mnist-ddpm."""

from kakusan.run.families.diffusion import DiffusionConfig
from kakusan.run.recipe import Recipe
from kakusan.training.settings import Optim

RECIPE = Recipe(
    name="mnist-transformer",
    summary="Diffusion model for 8-bit images on a GPU: transformer, bfloat16, compiled",
    model=DiffusionConfig(network="transformer", width=384, blocks=12, patch=2, clusters=128, guidance=2.0),
    optim=Optim(
        method="muon",
        lr=1e-3,
        matrix_lr=0.02,
        warmup=200,
        batch=1024,
        ema=0.1,
        early=0.1,
        augment="shift",
        precision="bfloat16",
        compile="default",
    ),
    minutes=15.0,
)
