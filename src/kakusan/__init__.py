"""kakusan: latent-variable generative models under one ELBO.

All public names are here and are imported on first use, so that `kakusan --help` does not load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers; at run time a name is loaded on first use
    from kakusan import data, measure, nets, objectives, oracles, solvers
    from kakusan.bound import ancestral_sample, elbo, importance_bound
    from kakusan.chain import LatentChain, log_weight
    from kakusan.distributions import Normal
    from kakusan.errors import InputError, ScheduleWarning
    from kakusan.exchange.export import export
    from kakusan.guidance import guided
    from kakusan.likelihoods.base import Likelihood
    from kakusan.models.clusters import Classes, Clusters
    from kakusan.models.diffusion import Diffusion
    from kakusan.models.dirichlet_multinomial import DirichletMultinomial
    from kakusan.models.hierarchical_vae import HierarchicalVAE
    from kakusan.models.mixture import Mixture
    from kakusan.models.vae import VAE
    from kakusan.run.density_estimator import DensityEstimator
    from kakusan.run.trained_model import TrainedModel, load
    from kakusan.run.trained_run import Run, train
    from kakusan.schedule import Schedule
    from kakusan.solvers.loop import sample
    from kakusan.training.fit import History, fit
    from kakusan.units import bits_per_dim

__version__ = "0.4.0"

_HOMES = {
    "Classes": "models.clusters",
    "Clusters": "models.clusters",
    "DensityEstimator": "run.density_estimator",
    "Diffusion": "models.diffusion",
    "DirichletMultinomial": "models.dirichlet_multinomial",
    "HierarchicalVAE": "models.hierarchical_vae",
    "History": "training.fit",
    "InputError": "errors",
    "LatentChain": "chain",
    "Likelihood": "likelihoods.base",
    "Mixture": "models.mixture",
    "Normal": "distributions",
    "Run": "run.trained_run",
    "Schedule": "schedule",
    "ScheduleWarning": "errors",
    "TrainedModel": "run.trained_model",
    "VAE": "models.vae",
    "ancestral_sample": "bound",
    "bits_per_dim": "units",
    "elbo": "bound",
    "export": "exchange.export",
    "fit": "training.fit",
    "guided": "guidance",
    "importance_bound": "bound",
    "load": "run.trained_model",
    "log_weight": "chain",
    "sample": "solvers.loop",
    "train": "run.trained_run",
}
_MODULES = ("data", "measure", "nets", "objectives", "oracles", "solvers")
__all__ = [  # the names of _HOMES and _MODULES, listed for editors
    "VAE",
    "Classes",
    "Clusters",
    "DensityEstimator",
    "Diffusion",
    "DirichletMultinomial",
    "HierarchicalVAE",
    "History",
    "InputError",
    "LatentChain",
    "Likelihood",
    "Mixture",
    "Normal",
    "Run",
    "Schedule",
    "ScheduleWarning",
    "TrainedModel",
    "ancestral_sample",
    "bits_per_dim",
    "data",
    "elbo",
    "export",
    "fit",
    "guided",
    "importance_bound",
    "load",
    "log_weight",
    "measure",
    "nets",
    "objectives",
    "oracles",
    "sample",
    "solvers",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"kakusan.{name}")
    if name not in _HOMES:
        from kakusan.registry import missing

        raise AttributeError(missing("kakusan", name, __all__))
    return getattr(importlib.import_module(f"kakusan.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
