"""The one-layer network of the importance-weighted autoencoder on binarized digits: 784-200-200-50, tanh units.

The paper trains with batches of 20 for 3,280 epochs with Adam and eight decreasing learning rates. Here batches of 128,
linear decay of the learning rate and averaged weights suit ten minutes on two CPU cores. The number K of importance
samples is --model.importance-samples (1, 5 and 50 in the paper's table). Source: Burda, Grosse and Salakhutdinov 2016,
section 5.
"""

from kakusan.run.families.vae import VAEConfig
from kakusan.run.recipe import Recipe
from kakusan.training.settings import Optim

RECIPE = Recipe(
    name="binary-iwae",
    summary="VAE for binarized digits with the network of the importance-weighted autoencoder",
    model=VAEConfig(hidden=(200, 200), latent=50, likelihood="bernoulli", activation="tanh"),
    data="mnist-binary",
    optim=Optim(lr=3e-3, weight_decay=0.0, batch=128, ema=0.1, betas=(0.9, 0.999)),
    steps=40_000,
)
