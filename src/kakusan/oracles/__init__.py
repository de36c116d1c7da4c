"""Exactly solvable worlds for testing latent-variable models of any library.

A world is a distribution of the data with its log-density and with the answers of a perfect model. Those are the best
denoiser, the posterior, the exact ELBO and the distribution of the samples. They are plain formulas in float64, which
share no code with the models; a schedule is a tensor of betas.
"""

from kakusan.oracles.bound import Bound
from kakusan.oracles.dirichlet import DirichletWorld
from kakusan.oracles.gaussian import GaussianWorld
from kakusan.oracles.linear_hierarchy import AffineEncoders, LinearHierarchyWorld
from kakusan.oracles.linear_vae import LinearVAEWorld
from kakusan.oracles.mixture import MixtureWorld
from kakusan.oracles.noising import Noising
from kakusan.oracles.world import NoisyWorld

__all__ = [
    "AffineEncoders",
    "Bound",
    "DirichletWorld",
    "GaussianWorld",
    "LinearHierarchyWorld",
    "LinearVAEWorld",
    "MixtureWorld",
    "Noising",
    "NoisyWorld",
]
