"""kakusan: latent-variable generative models under one ELBO.

Everything public is here, imported when it is first used, so that `kakusan --help` need not wait for torch.
"""

from __future__ import annotations

import importlib

__version__ = "0.3.0"

_HOMES = {
    "bits_per_dim": "units",
    "InputError": "errors",
    "ScheduleWarning": "errors",
    "Normal": "distributions",
    "LatentChain": "chain",
    "log_weight": "chain",
    "elbo": "bound",
    "importance_bound": "bound",
    "ancestral_sample": "bound",
    "DirichletMultinomial": "models.dirichlet_multinomial",
    "VAE": "models.vae",
    "HierarchicalVAE": "models.hierarchical_vae",
    "Schedule": "schedule",
    "Clusters": "models.clusters",
    "Diffusion": "models.diffusion",
    "guided": "guidance",
    "load": "run.trained_model",
}
__all__ = [*_HOMES]


def __getattr__(name: str):
    if name == "oracles":
        return importlib.import_module("kakusan.oracles")
    if name not in _HOMES:
        raise AttributeError(f"module 'kakusan' has no attribute {name!r}")
    return getattr(importlib.import_module(f"kakusan.{_HOMES[name]}"), name)


def __dir__():
    return [*__all__, "oracles", "__version__"]
