"""Settings of a recipe: model, data, optimizer and budget. Imports no torch, so that help is instant."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from kakusan.data.options import Pictures
from kakusan.errors import InputError, shown
from kakusan.nets import NETWORKS
from kakusan.settings import Between, Length, check, from_values
from kakusan.train.settings import MOST_MINUTES, MOST_STEPS, Optim

if TYPE_CHECKING:
    Network = str
else:
    Network = Literal[*NETWORKS]

# Upper limits of single settings. `kakusan.run.build` limits the size of a whole model.
Units = Annotated[int, Between(1, 65_536)]
Channels = Annotated[int, Between(8, 4096)]
LogSNR = Annotated[float, Between(-100, 100)]


@dataclass(frozen=True)
class DiffusionConfig:
    """Settings of a diffusion model and its denoising network."""

    depth: Annotated[int, Between(1, 100_000)] = 1000
    """Number of timesteps T."""
    schedule: Literal["linear", "cosine", "sigmoid"] = "cosine"
    """Noise schedule. linear: beta from 1e-4 to 0.02, made for depth 1000."""
    prediction: Literal["eps", "x", "v", "mean", "score"] = "v"
    """Quantity that the network predicts."""
    variance: Literal["unit", "beta", "beta_tilde", "learned"] = "beta_tilde"
    """Variance of the reverse steps. unit: the identity covariance of the study notes."""
    likelihood: Literal["gaussian", "discretized"] = "discretized"
    """Likelihood of the data given z_1."""
    objective: Literal["simple", "path", "pair", "single"] = "simple"
    """Training loss: the simple loss, or the negative ELBO estimated from T (path), two (pair) or one (single) latents."""
    focus: tuple[LogSNR, Annotated[float, Between(0.01, 100)]] = (-0.8, 1.0)
    """Mean and standard deviation of the log-SNR at which the simple loss trains most."""
    focus_share: Annotated[float, Between(0, 1)] = 0.8
    """Share of timesteps drawn around the focus. The others are drawn uniformly."""
    clusters: Annotated[int, Between(0, 4096)] = 0
    """Number of k-means clusters used for conditioning, at most one for every 50 examples. 0: unconditional."""
    guidance: Annotated[float, Between(1, 100)] = 3.0
    """Autoguidance weight for sampling (Karras et al. 2024). 1 disables it. Does not affect the bound."""
    guidance_range: tuple[LogSNR, LogSNR] = (-3.0, 1.0)
    """Lowest and highest log-SNR at which sampling is guided."""
    end_log_snr: LogSNR | None = None
    """Log-SNR at which few-step sampling stops and returns the network's estimate of x. Default: twice the logarithm of the number of steps. Lower values give cleaner backgrounds and blur fine detail. Ignored with uniform spacing. Does not affect the bound."""
    begin: Annotated[int, Between(1, 100_000)] | None = None
    """Timestep at which sampling starts from pure noise. Default: T. A distilled student starts lower."""
    time: Literal["sinusoidal", "table"] = "sinusoidal"
    """Embedding of the timestep. table: one learned vector for each timestep."""
    network: Network = "unet"
    """Denoising network. unet: small, for a CPU. convnext: convolutions between patches. transformer: attention between patches, for a GPU. cosine: a perceptron on the cosine transform of the image. classic: the U-Net of the DDPM paper."""
    width: Channels = 32
    """Number of channels, for a unet at its finest level. Try 96 for convnext, 128 to 512 for transformer, 512 for cosine."""
    inner_width: Channels = 64
    """Number of channels at the coarse level of a unet."""
    blocks: Annotated[int, Between(1, 32)] = 3
    """Number of residual blocks, for a unet at its coarse level."""
    patch: Annotated[int, Between(1, 64)] = 4
    """Side of a patch in pixels, for convnext and transformer."""

    def __post_init__(self):
        check(self, "model")


@dataclass(frozen=True)
class VAEConfig:
    """Settings of a VAE with multi-layer perceptrons."""

    hidden: Annotated[tuple[Units, ...], Length(1, 32)] = (512, 256)
    """Widths of the encoder's hidden layers. The decoder has them in reverse order."""
    latent: Units = 32
    """Number of latent dimensions."""
    likelihood: Literal["gaussian", "bernoulli", "discretized"] = "discretized"
    """Likelihood of the data. gaussian: unit variance, pixels in [0, 1]. bernoulli: binary pixels. discretized: 8-bit levels."""
    activation: Literal["relu", "tanh", "silu"] = "relu"
    """Activation function of the hidden layers."""
    residual: bool = False
    """Add a skip connection around each hidden layer whose input has the same width."""
    importance_samples: Annotated[int, Between(1, 10_000)] = 1
    """Number of samples K of the importance-weighted training bound. 1: the ELBO with its KL in closed form."""

    def __post_init__(self):
        check(self, "model")


@dataclass(frozen=True)
class HierarchyConfig:
    """Settings of a hierarchical VAE. Defaults are those of the study notes."""

    hidden: Units = 100
    """Width of the hidden layers between the data and z_1."""
    upper_hidden: Units | None = None
    """Width of the hidden layers above z_1. Default: the same as hidden."""
    layers: Annotated[int, Between(1, 16)] = 1
    """Number of hidden layers of each network."""
    latents: Annotated[tuple[Units, ...], Length(1, 16)] = (20, 20)
    """Dimensions of z_1, ..., z_L. Their number is the number of levels."""
    likelihood: Literal["gaussian", "bernoulli", "discretized"] = "gaussian"
    """Likelihood of the data. gaussian: unit variance, pixels in [0, 1]. bernoulli: binary pixels. discretized: 8-bit levels."""
    variance: Literal["unit", "learned"] = "unit"
    """Variance of p(z_l | z_{l+1}). unit: 1, as in the study notes."""
    activation: Literal["relu", "tanh", "silu"] = "relu"
    """Activation function of the hidden layers."""
    residual: bool = False
    """Add a skip connection around each hidden layer whose input has the same width."""
    third_term: Literal["exact", "notes"] = "exact"
    """Training objective. exact: the ELBO. notes: the study notes' form of the terms between levels, which is not a bound."""
    importance_samples: Annotated[int, Between(1, 10_000)] = 1
    """Number of samples K of the importance-weighted training bound. 1: the ELBO with its top KL in closed form."""

    def __post_init__(self):
        check(self, "model")


@dataclass(frozen=True)
class DirichletConfig:
    """Settings of a Dirichlet-multinomial model of counts, fitted by gradient ascent on the ELBO."""

    concentration: Annotated[float, Between(1e-6, 1e6)] = 2.0
    """Concentration of the prior, the same for every category."""
    learn_concentration: bool = False
    """Fit the concentration of the prior, one number for each category."""

    def __post_init__(self):
        check(self, "model")


@dataclass(frozen=True)
class Distil:
    """Settings of the distillation of a diffusion model into a student that samples in one network evaluation."""

    guidance: Annotated[float, Between(1, 100)] = 2.0
    """Autoguidance weight of the teacher, within the guidance range of its recipe. 1 disables it."""
    begin_log_snr: LogSNR = -1.8
    """Log-SNR of the noise level at which the student starts from pure noise."""
    compare: tuple[LogSNR, Annotated[float, Between(0.01, 100)]] = (-1.0, 2.0)
    """Mean and standard deviation of the log-SNR at which student and teacher are compared."""
    student_rate: Annotated[float, Between(0, 1, "(]")] = 0.3
    """Learning rate of the student divided by that of the fake-score network."""

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
    """A complete experiment: model, data, optimizer and budget."""

    name: Annotated[str, Length(1, 100)]
    summary: Annotated[str, Length(0, 1000)]
    model: ModelConfig
    data: Annotated[str, Length(1, 4096)] = "mnist"
    pictures: Pictures = field(default_factory=Pictures)
    optim: Optim = field(default_factory=Optim)
    distil: Distil | None = None
    """Distillation settings. If given, the model is a student, and its model settings are those of its teacher."""
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
        """Name of the model family: diffusion, vae, hierarchy or dirichlet."""
        return next(name for name, kind in FAMILIES.items() if type(self.model) is kind)

    def record(self) -> dict[str, Any]:
        """Return plain JSON values that `from_record` reads back."""
        return {"family": self.family, **dataclasses.asdict(self)}


# Settings that earlier versions recorded and that no longer exist; sampling and evaluation never needed them.
GONE = {"model": {"references"}, "distil": {"calls", "first_share", "data_weight", "data_compare"}}


def from_record(record: Any) -> Recipe:
    """Rebuild a recipe from its JSON record."""
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
