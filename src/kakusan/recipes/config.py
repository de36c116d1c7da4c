"""What a recipe is: typed settings, and nothing else. No torch here, so that help and listings are instant."""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal

from kakusan.errors import InputError
from kakusan.train.settings import Optim


@dataclass(frozen=True)
class DiffusionConfig:
    """A diffusion model with a U-Net as its denoiser."""

    depth: int = 1000
    """T, the number of latents."""
    schedule: Literal["linear", "cosine", "sigmoid"] = "cosine"
    """linear: beta from 1e-4 to 0.02, made for depth 1000."""
    prediction: Literal["eps", "x", "v", "mean", "score"] = "v"
    """What the network predicts."""
    variance: Literal["unit", "beta", "beta_tilde", "learned"] = "beta_tilde"
    """Of the reverse steps; unit is the study notes'."""
    likelihood: Literal["gaussian", "discretized"] = "discretized"
    """Of the data given z_1."""
    objective: Literal["simple", "path", "pair", "single"] = "simple"
    """The training loss: the simple one, or minus an ELBO estimate from T, two or one drawn latents."""
    focus: tuple[float, float] = (-0.8, 1.0)
    """Mean and spread of the log SNR where the shapes of things are decided."""
    focus_share: float = 0.8
    """Share of the simple loss's steps that are drawn there; the others are drawn from all steps alike."""
    guidance: float = 3.0
    """Of samples: how far to prolong the step from the run's early weights to its last ones; 1 for none. Not in the bound."""
    guidance_range: tuple[float, float] = (-3.0, 1.0)
    """Between which log SNR samples are guided."""
    time: Literal["sinusoidal", "table"] = "sinusoidal"
    """How the network is told t; table is what a one-hot label amounts to."""
    width: int = 32
    """Channels at the finest level of the U-Net; a multiple of 8."""
    inner_width: int = 64
    """Channels at its coarse level; a multiple of 8."""
    blocks: int = 3
    """Residual blocks at the coarse level."""


@dataclass(frozen=True)
class VAEConfig:
    """A VAE with multi-layer perceptrons."""

    hidden: tuple[int, ...] = (512, 256)
    """Hidden layers of the encoder; the decoder has them in reverse."""
    latent: int = 32
    likelihood: Literal["gaussian", "bernoulli", "discretized"] = "discretized"
    """gaussian: unit variance on [0, 1], the study notes'. bernoulli: pixels as random bits. discretized: 8-bit levels."""
    activation: Literal["relu", "tanh", "silu"] = "relu"
    """Of the hidden layers."""
    residual: bool = False
    """Add a hidden layer to what it reads, wherever both are as wide."""
    importance_samples: int = 1
    """K of the importance-weighted bound that training raises; 1 is the ELBO, with its KL in closed form."""


@dataclass(frozen=True)
class HierarchyConfig:
    """A hierarchical VAE, the study notes' unless told otherwise; the number of latent sizes is the number of levels."""

    hidden: int = 100
    """Units of a hidden layer between the data and z_1."""
    upper_hidden: int | None = None
    """Units of a hidden layer above z_1; as many as below unless given."""
    layers: int = 1
    """Hidden layers of each network."""
    latents: tuple[int, ...] = (20, 20)
    """Sizes of z_1, ..., z_L."""
    likelihood: Literal["gaussian", "bernoulli", "discretized"] = "gaussian"
    variance: Literal["unit", "learned"] = "unit"
    """Of p(z_l | z_{l+1}); unit is the study notes'."""
    activation: Literal["relu", "tanh", "silu"] = "relu"
    """Of the hidden layers."""
    residual: bool = False
    """Add a hidden layer to what it reads, wherever both are as wide."""
    third_term: Literal["exact", "notes"] = "exact"
    """exact: the ELBO. notes: the study notes' form of the terms between the levels, a looser bound."""
    importance_samples: int = 1
    """K of the importance-weighted bound that training raises; 1 is the ELBO, with its top KL in closed form."""


@dataclass(frozen=True)
class DirichletConfig:
    """Counts with a Dirichlet prior, the posterior found by gradient ascent on the ELBO."""

    concentration: float = 2.0
    """Of the prior, the same for every category."""
    learn_concentration: bool = False
    """Fit the prior as well, one number for each category."""


ModelConfig = DiffusionConfig | VAEConfig | HierarchyConfig | DirichletConfig
FAMILIES: dict[str, type] = {
    "diffusion": DiffusionConfig,
    "vae": VAEConfig,
    "hierarchy": HierarchyConfig,
    "dirichlet": DirichletConfig,
}


@dataclass(frozen=True)
class Recipe:
    """A complete experiment: model, data, optimiser, budget."""

    name: str
    summary: str
    model: ModelConfig
    data: str = "mnist"
    optim: Optim = field(default_factory=Optim)
    minutes: float | None = None
    steps: int | None = None

    @property
    def family(self) -> str:
        """diffusion, vae, hierarchy or dirichlet."""
        return next(name for name, kind in FAMILIES.items() if type(self.model) is kind)

    def record(self) -> dict[str, Any]:
        """As plain JSON values, to be read back by `from_record`."""
        return {"family": self.family, **dataclasses.asdict(self)}


def from_record(record: dict[str, Any]) -> Recipe:
    """Rebuild a recipe from its JSON record; InputError names what does not fit."""
    content = dict(record)
    family = content.pop("family", None)
    if family not in FAMILIES:
        raise InputError(f"the record's family must be one of {', '.join(FAMILIES)}, got {family!r}")
    content["model"] = _typed(FAMILIES[family], content.get("model"), "model")
    content["optim"] = _typed(Optim, content.get("optim"), "optim")
    return _typed(Recipe, content, "recipe")


def _typed(kind: type, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise InputError(f"the record's {where} must be a table of settings, got {values!r}")
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise InputError(f"the record's {where} has settings that this version does not know: {', '.join(unknown)}")
    fitted = {}
    for name, value in values.items():
        if isinstance(value, list):
            value = tuple(value)
        if not _fits(value, hints[name]):
            raise InputError(f"the record's {where}.{name} must be {hints[name]}, got {value!r}")
        fitted[name] = value
    try:
        return kind(**fitted)
    except TypeError as error:
        raise InputError(f"the record's {where} is not complete: {error}") from error


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, arguments[0]) for item in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)
