"""Exactly solvable worlds for testing latent-variable models of any library.

A world is a distribution of data with its log-density and the exact results of a perfect model. Those are the best
denoiser, the posterior, the ELBO and the distribution of the samples. All are plain formulas in float64 and share no
code with the models. A schedule is given as a tensor of betas.
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
