"""What a recipe is: typed settings, and nothing else. No torch here, so that help and listings are instant."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from kakusan.data.options import Pictures
from kakusan.errors import InputError, shown
from kakusan.settings import Between, Length, check, from_values
from kakusan.train.settings import MOST_MINUTES, MOST_STEPS, Optim

# What no honest model goes beyond; how large a model may be in all stands in recipes/build.py.
Units = Annotated[int, Between(1, 65_536)]
Channels = Annotated[int, Between(8, 4096)]
LogSNR = Annotated[float, Between(-100, 100)]


@dataclass(frozen=True)
class DiffusionConfig:
    """A diffusion model and the network that denoises."""

    depth: Annotated[int, Between(1, 100_000)] = 1000
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
    focus: tuple[LogSNR, Annotated[float, Between(0.01, 100)]] = (-0.8, 1.0)
    """Mean and spread of the log SNR where the shapes of things are decided."""
    focus_share: Annotated[float, Between(0, 1)] = 0.8
    """Share of the simple loss's steps that are drawn there; the others are drawn from all steps alike."""
    clusters: Annotated[int, Between(0, 4096)] = 0
    """Kinds of examples, found by k-means before training, of which the network is told which one it denoises; samples draw theirs first. At most one for every 50 examples. 0: none."""
    guidance: Annotated[float, Between(1, 100)] = 3.0
    """Of samples: how far to prolong the step from the run's early weights to its last ones; 1 for none. Not in the bound."""
    guidance_range: tuple[LogSNR, LogSNR] = (-3.0, 1.0)
    """Between which log SNR samples are guided."""
    end_log_snr: LogSNR | None = None
    """Log SNR from which samples of few steps go to the data estimate at once; twice the log of the steps, unless this is lower. Lower makes backgrounds clean and blurs the finest detail. Not for equal steps, and not in the bound."""
    begin: Annotated[int, Between(1, 100_000)] | None = None
    """The step at which sampling begins, from pure noise; T unless given. A distilled student begins lower."""
    time: Literal["sinusoidal", "table"] = "sinusoidal"
    """How the network is told t; table is what a one-hot label amounts to."""
    network: Literal["unet", "convnext", "transformer", "cosine", "classic"] = "unet"
    """The denoiser. unet: small, made for a CPU. convnext: wide convolutions between patches. transformer: attention between patches, for a GPU. cosine: a perceptron of the picture's cosine coefficients. classic: the DDPM paper's U-Net of three levels."""
    width: Channels = 32
    """Channels of the network, those at the finest level of a unet; 96 suits a convnext, 128 to 512 a transformer, 512 cosine."""
    inner_width: Channels = 64
    """Channels at the coarse level of a unet."""
    blocks: Annotated[int, Between(1, 32)] = 3
    """Residual blocks, those at the coarse level of a unet."""
    patch: Annotated[int, Between(1, 64)] = 4
    """Pixels a side of a patch of a convnext or a transformer: halved, there are four times as many patches."""

    def __post_init__(self):
        check(self, "model")


@dataclass(frozen=True)
class VAEConfig:
    """A VAE with multi-layer perceptrons."""

    hidden: Annotated[tuple[Units, ...], Length(1, 32)] = (512, 256)
    """Hidden layers of the encoder; the decoder has them in reverse."""
    latent: Units = 32
    likelihood: Literal["gaussian", "bernoulli", "discretized"] = "discretized"
    """gaussian: unit variance on [0, 1], the study notes'. bernoulli: pixels as random bits. discretized: 8-bit levels."""
    activation: Literal["relu", "tanh", "silu"] = "relu"
    """Of the hidden layers."""
    residual: bool = False
    """Add a hidden layer to what it reads, wherever both are as wide."""
    importance_samples: Annotated[int, Between(1, 10_000)] = 1
    """K of the importance-weighted bound that training raises; 1 is the ELBO, with its KL in closed form."""

    def __post_init__(self):
        check(self, "model")


@dataclass(frozen=True)
class HierarchyConfig:
    """A hierarchical VAE, the study notes' unless told otherwise; the number of latent sizes is the number of levels."""

    hidden: Units = 100
    """Units of a hidden layer between the data and z_1."""
    upper_hidden: Units | None = None
    """Units of a hidden layer above z_1; as many as below unless given."""
    layers: Annotated[int, Between(1, 16)] = 1
    """Hidden layers of each network."""
    latents: Annotated[tuple[Units, ...], Length(1, 16)] = (20, 20)
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
    importance_samples: Annotated[int, Between(1, 10_000)] = 1
    """K of the importance-weighted bound that training raises; 1 is the ELBO, with its top KL in closed form."""

    def __post_init__(self):
        check(self, "model")


@dataclass(frozen=True)
class DirichletConfig:
    """Counts with a Dirichlet prior, the posterior found by gradient ascent on the ELBO."""

    concentration: Annotated[float, Between(1e-6, 1e6)] = 2.0
    """Of the prior, the same for every category."""
    learn_concentration: bool = False
    """Fit the prior as well, one number for each category."""

    def __post_init__(self):
        check(self, "model")


@dataclass(frozen=True)
class Distil:
    """Distillation of a diffusion model into a student that samples in one network evaluation."""

    guidance: Annotated[float, Between(1, 100)] = 2.0
    """Autoguidance weight of the teacher; 1 disables it."""
    begin_log_snr: LogSNR = -1.8
    """Log-SNR at which the student starts from pure noise. At lower ones its network sees no shapes at first."""
    compare: tuple[LogSNR, Annotated[float, Between(0.01, 100)]] = (-1.0, 2.0)
    """Mean and standard deviation of the log-SNR at which student and teacher are compared."""
    student_rate: Annotated[float, Between(0, 1, "(]")] = 0.3
    """Learning rates of the student, as a share of those of the fake-score network."""

    def __post_init__(self):
        check(self, "distil")


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

    name: Annotated[str, Length(1, 100)]
    summary: Annotated[str, Length(0, 1000)]
    model: ModelConfig
    data: Annotated[str, Length(1, 4096)] = "mnist"
    pictures: Pictures = field(default_factory=Pictures)
    optim: Optim = field(default_factory=Optim)
    distil: Distil | None = None
    """If given, the model is a student; its own settings are then those of its teacher."""
    minutes: Annotated[float, Between(0, MOST_MINUTES)] | None = None
    steps: Annotated[int, Between(0, MOST_STEPS)] | None = None

    def __post_init__(self):
        check(self, "recipe")
        if self.distil is not None and not isinstance(self.model, DiffusionConfig):
            raise InputError(
                f"recipe.distil makes a student of a diffusion model, got a {self.family} model; leave it out"
            )

    @property
    def family(self) -> str:
        """diffusion, vae, hierarchy or dirichlet."""
        return next(name for name, kind in FAMILIES.items() if type(self.model) is kind)

    def record(self) -> dict[str, Any]:
        """As plain JSON values, to be read back by `from_record`."""
        return {"family": self.family, **dataclasses.asdict(self)}


# Settings that earlier versions recorded and that no longer exist; sampling and evaluation never needed them.
GONE = {"model": {"references"}, "distil": {"calls", "first_share", "data_weight", "data_compare"}}


def from_record(record: Any) -> Recipe:
    """Rebuild a recipe from its JSON record; InputError names what does not fit."""
    if not isinstance(record, dict):
        raise InputError(f"the record of a recipe must be a table of settings, got {shown(record)}")
    content = dict(record)
    family = content.pop("family", None)
    if not isinstance(family, str) or family not in FAMILIES:
        raise InputError(f"the record's family must be one of {', '.join(FAMILIES)}, got {shown(family)}")
    for part, gone in GONE.items():
        if isinstance(content.get(part), dict):
            content[part] = {name: value for name, value in content[part].items() if name not in gone}
    content["model"] = from_values(FAMILIES[family], content.get("model"), "model")
    content["optim"] = from_values(Optim, content.get("optim"), "optim")
    if content.get("distil") is not None:
        content["distil"] = from_values(Distil, content["distil"], "distil")
    content["pictures"] = from_values(Pictures, content.get("pictures", {}), "pictures")
    return from_values(Recipe, content, "recipe")
