"""The diffusion family: DDPM with any schedule, prediction and network, optionally conditional on clusters."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from kakusan.errors import InputError
from kakusan.nets import NETWORKS
from kakusan.run.families.base import Family, Figure, LogSNR, TrainingLoss
from kakusan.run.families.conditional import ConditionalConfig, conditioned
from kakusan.settings import Between, check

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kakusan.likelihood.evaluation import Estimate
    from kakusan.noise import Randomness
    from kakusan.run.recipe import Recipe
    from kakusan.run.sampling import SamplingPolicy
    from kakusan.run.tools.latents import NoiseLatents
    from kakusan.run.trained_model import TrainedModel
    from kakusan.schedule import Schedule
    from kakusan.timesteps import StepLaw

    Network = str
else:
    Network = Literal[*NETWORKS]

Channels = Annotated[int, Between(8, 4096)]
FEW, ENOUGH = 250, 1000  # below FEW examples, estimates are repeated up to about ENOUGH network evaluations
# Largest number of pixels, and the U-Net for images up to that size. A larger fold keeps the coarse level small.
UNET_PLANS: tuple[tuple[float, dict[str, int]], ...] = (
    (48 * 48, {"fold": 2, "width": 32, "inner_width": 64, "refine": 16}),
    (160 * 160, {"fold": 4, "width": 64, "inner_width": 96, "refine": 16}),
    (float("inf"), {"fold": 8, "width": 96, "inner_width": 128, "refine": 16}),
)
COLOR_WIDTHS = {"width": 48, "inner_width": 96}
FEW_IMAGES = 1_000  # fewer images do not need wider layers


@dataclass(frozen=True)
class DiffusionConfig(ConditionalConfig):
    """Settings of a diffusion model and its denoising network."""

    family = "diffusion"
    guided = True

    depth: Annotated[int, Between(1, 100_000)] = 1000
    """Number of timesteps T."""
    schedule: Literal["linear", "cosine", "sigmoid"] = "cosine"
    """Noise schedule. linear: beta from 1e-4 to 0.02, made for depth 1000."""
    prediction: Literal["eps", "x", "v", "mean", "score"] = "v"
    """Quantity that the network predicts."""
    variance: Literal["unit", "beta", "beta_tilde", "fixed_large", "learned"] = "beta_tilde"
    """Variance of the reverse steps. fixed_large: beta, with beta_tilde_2 at t = 1. unit: the identity covariance of the study notes."""
    likelihood: Literal["gaussian", "discretized"] = "discretized"
    """Likelihood of the data given z_1."""
    objective: Literal["simple", "path", "pair", "single"] = "simple"
    """Training loss: the simple loss, or the negative ELBO estimated from T (path), two (pair) or one (single) latents."""
    focus: tuple[LogSNR, Annotated[float, Between(0.01, 100)]] = (-0.8, 1.0)
    """Mean and standard deviation of the log-SNR at which the simple loss trains most."""
    focus_share: Annotated[float, Between(0, 1)] = 0.8
    """Share of timesteps drawn around the focus. The others are drawn uniformly."""
    label_dropout: Annotated[float, Between(0, 1, "[)")] = 0.1
    """Share of labels that training replaces by a null class, for classifier-free guidance (Ho and Salimans 2022). Ignored without labels."""
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

    fold: Annotated[int, Between(1, 16)] = 2
    """Side in pixels of the squares that become channels, for a unet."""
    refine: Annotated[int, Between(0, 256)] = 0
    """Number of channels of two convolutions on the unfolded image, for a unet. They remove the grid of the folds."""
    checkpointing: bool = False
    """Recompute the coarse blocks of a unet for the gradient. Saves memory, and makes a step a third slower."""
    plan: Literal["fixed", "data"] = "fixed"
    """Choice of widths and fold of a unet. data: from size, color and number of the images, unless they are set."""

    def __post_init__(self):
        check(self, "model")

    def all_steps(self) -> Schedule:
        """Return the schedule over all T steps."""
        from kakusan.schedule import Schedule

        return getattr(Schedule, self.schedule)(self.depth)


class DiffusionFamily(Family):
    """Family of diffusion models."""

    name = "diffusion"
    config = DiffusionConfig
    draws_latents = False
    estimators = ("path", "pair", "single")
    splits_over_threads = True

    def build(self, config: DiffusionConfig, event_shape: tuple[int, ...]) -> nn.Module:
        """Build a `Diffusion` on pixels in [-1, 1], in a `Mixture` if there are labels or clusters."""
        from kakusan.guidance import check_guidance
        from kakusan.models.diffusion import Diffusion

        timestep_distribution(config)  # invalid settings raise an error now, not when training starts
        check_guidance(config.guidance, config.guidance_range)
        chain = Diffusion(
            NETWORKS[config.network].from_config(config, event_shape),
            schedule_of(config),
            event_shape,
            prediction=config.prediction,
            variance=config.variance,
            likelihood=config.likelihood,
            clip=(-1.0, 1.0),
        )
        return conditioned(chain, config, event_shape)

    def plan(
        self, config: DiffusionConfig, event_shape: tuple[int, ...], num_examples: int
    ) -> tuple[DiffusionConfig, str]:
        """Choose widths and fold of a U-Net that suit a CPU, from `UNET_PLANS`, for settings that have their defaults."""
        if config.plan == "fixed":
            return config, ""
        config = dataclasses.replace(config, plan="fixed")
        if config.network != "unet":
            return config, ""
        channels, height, width = event_shape
        chosen = next(plan for most, plan in UNET_PLANS if height * width <= most)
        if channels > 1 and chosen["width"] < COLOR_WIDTHS["width"] and num_examples >= FEW_IMAGES:
            chosen = {**chosen, **COLOR_WIDTHS}
        defaults = DiffusionConfig()
        free: dict[str, Any] = {
            name: value for name, value in chosen.items() if getattr(config, name) == getattr(defaults, name)
        }
        config = dataclasses.replace(config, **free)
        color = {1: "gray", 3: "color"}.get(channels, f"{channels}-channel")
        return config, (
            f"network for {num_examples:,} {color} images of {height} x {width}: U-Net over {config.fold} x {config.fold} "
            f"pixels, {config.width} and {config.inner_width} channels; --model.fold, --model.width and "
            "--model.inner-width set others"
        )

    def chain(self, module: Any) -> Any:
        """Return the module itself, or the student of a distillation."""
        from kakusan.objectives.distillation import Distillation

        return module.chain() if isinstance(module, Distillation) else module

    def student(self) -> Family:
        """The family of students, which sample in few network evaluations."""
        return StudentFamily()

    def scale(self, config: DiffusionConfig) -> Any:
        """Return the scale to pixels in [-1, 1], which does not depend on the likelihood."""
        from kakusan.data.scale import SIGNED

        return SIGNED

    def loss(self, config: DiffusionConfig) -> TrainingLoss:
        """Return the loss of the settings, with their timestep distribution."""
        law = timestep_distribution(config)
        own = {"objective": config.objective, "law": law}
        return lambda module, x, indices, randomness, **known: module.loss(x, randomness, **own, **known)

    def terms(
        self, config: DiffusionConfig, module: Any, x: Tensor, randomness: Randomness, cond: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return no terms, because the simple loss is not a sum of terms of the bound."""
        return {}

    def is_cheap(self, config: DiffusionConfig) -> bool:
        """Return False for the path estimator, whose training step has T network evaluations."""
        return config.objective != "path"

    def sampling(self, chain: Any, weaker: Any, recipe: Recipe) -> SamplingPolicy:
        """Return sampling with a solver, by default with autoguidance from the weaker chain."""
        from kakusan.run.sampling import SamplingPolicy

        return SamplingPolicy(chain, weaker, recipe)

    def latents(self, model: TrainedModel, steps: int | None = None, solver: Any = None) -> NoiseLatents:
        """Return latents z_T by inversion of a deterministic solver."""
        from kakusan.run.tools.latents import NoiseLatents

        return NoiseLatents(model.chain, steps, solver)

    def repeats(self, num: int) -> int:
        """Return more estimates for few examples, because one estimate evaluates each example at one timestep."""
        return math.ceil(ENOUGH / num) if 0 < num < FEW else 1

    def timestep_law(self, model: TrainedModel) -> StepLaw:
        """Return the timestep distribution for data of unit variance."""
        from kakusan.likelihood.step_groups import default_law
        from kakusan.models.mixture import split

        return default_law(split(model.chain)[0])

    def least_nats(self, model: TrainedModel) -> float | None:
        """Return the nats per dimension that reverse steps of unit variance cost; None for other variances."""
        from kakusan.likelihood.step_groups import free_cost
        from kakusan.models.mixture import split

        chain = split(model.chain)[0]
        return free_cost(chain).sum().item() / model.num_dims if chain.variance == "unit" else None

    def estimate(
        self, model: TrainedModel, data: Tensor, seed: int, law: StepLaw | None, labels: Tensor | None = None
    ) -> Estimate:
        """Estimate the bound with one network evaluation per example and a control variate."""
        from kakusan.likelihood.classes import assigned
        from kakusan.likelihood.diffusion import of_diffusion

        batch = model.batches(data, seed)
        known = assigned(model.chain, batch, len(data), labels, seed)
        if known is None:
            return of_diffusion(model.chain, batch, len(data), seed, law)
        found = of_diffusion(model.chain, batch, len(data), seed, law, cond=known.k, log_prior=known.log_prior)
        return dataclasses.replace(found, evaluations=found.evaluations + known.evaluations)

    def figures(self, model: TrainedModel, held_out: Tensor) -> dict[str, Figure]:
        """Return figures of both directions of the chain, and of the centroids of the clusters."""
        from kakusan.run.figures import cluster_centroids, forward_strip, reverse_strip

        figures = {"forward.png": forward_strip(model, held_out), "reverse.png": reverse_strip(model)}
        return figures | cluster_centroids(model)


class StudentFamily(DiffusionFamily):
    """Family of students of diffusion models, which sample in few network evaluations and have no bound."""

    has_bound = False
    estimators = ()

    def latents(self, model: TrainedModel, steps: int | None = None, solver: Any = None) -> NoiseLatents:
        """Raise InputError, because a student maps noise to examples in one step that has no inverse."""
        raise InputError("a student has no latents of given examples; use the model that it was distilled from")

    def figures(self, model: TrainedModel, held_out: Tensor) -> dict[str, Figure]:
        """Return no figures, because a single step has no chain to show."""
        return {}

    def sampling(self, chain: Any, weaker: Any, recipe: Recipe) -> SamplingPolicy:
        """Return sampling in one step; each further step starts from fresh noise."""
        from kakusan.run.sampling import StudentPolicy

        return StudentPolicy(chain, weaker, recipe)


def schedule_of(config: Any) -> Schedule:
    """Return the schedule of the settings, up to the step where sampling begins."""
    import torch

    with torch.device("cpu"):  # the tables have values, even if the networks are built on the meta device
        whole = config.all_steps()
        if config.begin is None:
            return whole
        if config.begin > config.depth:
            raise InputError(f"model.begin must lie in 1..{config.depth}, the model's own steps, got {config.begin}")
        return whole.respaced(list(range(1, config.begin + 1)))


def timestep_distribution(config: Any) -> StepLaw:
    """Return the timestep distribution of the simple loss: a share around the focus, the rest uniform."""
    import torch

    from kakusan.timesteps import StepLaw

    schedule = schedule_of(config)
    with torch.device("cpu"):
        focused, uniform = StepLaw.log_snr_normal(schedule, *config.focus), StepLaw.uniform(schedule.depth)
    return StepLaw(config.focus_share * focused.probs + (1 - config.focus_share) * uniform.probs)
