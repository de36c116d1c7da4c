"""Interface between recipes and a model family. Imports no torch, so that help is instant."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from kakusan.data.forms import FORMS
from kakusan.errors import InputError, shown
from kakusan.settings import Between

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from kakusan.data.dataset import Dataset
    from kakusan.data.forms.base import Form
    from kakusan.data.options import ImageOptions
    from kakusan.images import Images
    from kakusan.likelihood.evaluation import Estimate
    from kakusan.noise import Randomness
    from kakusan.run.recipe import Recipe
    from kakusan.run.sampling import OnePass, SamplingPolicy
    from kakusan.run.tools.latents import MeanLatents
    from kakusan.run.trained_model import TrainedModel
    from kakusan.timesteps import StepLaw

Units = Annotated[int, Between(1, 65_536)]
LogSNR = Annotated[float, Between(-100, 100)]
LARGEST_EVENT = 2**24  # numbers in one example
DRAWS = 2  # of the latents of each example, in an evaluation by terms
TrainingLoss = Callable[..., "Tensor"]  # (module, x, indices, randomness), or with cond=labels -> (b,)
Figure = tuple["Images", int | None]  # images in reading order, and how many form a row (None: as wide as high)


class ModelConfig:
    """Base of the settings of a family: a frozen dataclass with a `family` name.

    Attributes:
        conditional: Whether the model can be conditional on labels or clusters.
        guided: Whether samples can be guided by weights from early in the run, and the model distilled.
    """

    family = ""
    guided = False
    conditional = False

    @property
    def kind_of_condition(self) -> Literal["none", "clusters", "labels"]:
        """The condition of the model."""
        return "none"

    def for_labels(self, dataset: Dataset) -> Any:
        """The settings for the labels of these data."""
        return self


class Family(abc.ABC):
    """One kind of model: its settings, how it is built, trained, evaluated and shown.

    Every method has a default that suits an image model whose ELBO comes as `LatentChain.terms`, except `build`.

    Attributes:
        name: Name in recipes and records.
        config: Settings, a subclass of `ModelConfig`.
        kind: Kind of data, the name of their form in `kakusan.data.forms.FORMS`.
        draws_latents: Whether an importance-weighted bound and figures of reconstructions make sense.
        closed_form: Whether the bound is computed without network evaluations, so that all examples are measured.
        has_bound: Whether given examples can be scored.
        estimators: Names of the further estimators of the ELBO.
        splits_over_threads: Whether micro-batches on several threads are faster than one.
    """

    name: ClassVar[str]
    config: ClassVar[type[ModelConfig]]
    kind: ClassVar[str] = "images"
    draws_latents: ClassVar[bool] = True
    closed_form: ClassVar[bool] = False
    has_bound: ClassVar[bool] = True
    estimators: ClassVar[tuple[str, ...]] = ()
    splits_over_threads: ClassVar[bool] = False

    @abc.abstractmethod
    def build(self, config: Any, event_shape: tuple[int, ...]) -> nn.Module:
        """An untrained module of these settings."""

    @property
    def form(self) -> Form:
        """Form of the data."""
        return FORMS[self.kind]()

    def student(self) -> Family:
        """The family of a student that was distilled from such a model; InputError if there is none."""
        raise InputError(f"recipe.distil makes a student of a diffusion model, got a {self.name} model; leave it out")

    def for_data(self, config: Any, dataset: Dataset, own_data: bool) -> Any:
        """The settings with their defaults for these data; own_data: other data than the recipe's were given."""
        return config

    def plan(self, config: Any, event_shape: tuple[int, ...], num_examples: int) -> tuple[Any, str]:
        """The settings with a network chosen for the shape and number of examples, and the choice in words."""
        return config, ""

    def observe(self, module: Any, config: Any, data: Tensor, augment: str, labels: Tensor | None) -> None:
        """Take from the training data the clusters or the labels that the model is conditional on."""
        from kakusan.models.mixture import split
        from kakusan.run.families.conditional import observe

        if split(module)[1] is not None:
            observe(module, self.scale(config), data, augment, labels)

    def conform(self, config: Any, dataset: Dataset) -> Dataset:
        """Other data than the run's own, in the form of the training data; InputError if they do not fit."""
        return dataset

    def reading(self, config: Any, options: ImageOptions) -> ImageOptions:
        """Options of reading other data than the run's own."""
        return options

    def chain(self, module: Any) -> Any:
        """The `LatentChain` that a trained module is used as."""
        return module

    def event_shape(self, values: Any) -> tuple[int, ...]:
        """The shape of an example, as a JSON record has it.

        Raises:
            InputError: If examples of this form cannot have it.
        """
        whole = isinstance(values, list) and all(type(value) is int and 0 < value <= LARGEST_EVENT for value in values)
        if not whole or not self.form.fits(tuple(values)):
            raise InputError(f"the record's event_shape must be {self.form.shape_words}, got {shown(values)}")
        return tuple(values)

    def scale(self, config: Any) -> Any:
        """The numbers that the model takes for stored values."""
        from kakusan.data.scale import Scale
        from kakusan.likelihoods import as_likelihood

        likelihood = as_likelihood(config.likelihood)
        return Scale(likelihood.low, likelihood.high, likelihood.binary)

    def inputs(self, config: Any, examples: Tensor, augment: str, randomness: Randomness) -> Tensor:
        """Stored examples in the model's numbers, augmented as in training."""
        from kakusan.data.augment import augmented

        return self.scale(config).to_model(augmented(examples, augment, randomness), randomness)

    def prepare(self, module: Any, data: Tensor, augment: str) -> None:  # noqa: B027 - most families do nothing here
        """Take from the training data what an untrained module needs, e.g. clusters or mean pixels."""

    def loss(self, config: Any) -> TrainingLoss:
        """The training loss: (module, x, indices, randomness) -> loss of each example, shape (b,).

        A conditional model gets the labels as a keyword cond.
        """
        return lambda module, x, indices, randomness, **known: module.loss(x, randomness, **known)

    def terms(
        self, config: Any, module: Any, x: Tensor, randomness: Randomness, cond: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Terms of the bound in nats, each (b,), if the loss is made of them."""
        return module.draw_terms(x, cond, randomness)

    def is_cheap(self, config: Any) -> bool:
        """True if a training step is cheap enough to be tried before training, for its memory and its operations."""
        return True

    def start_lines(self, module: Any) -> list[str]:
        """Messages about a module that has seen the training data, e.g. the number of clusters found."""
        from kakusan.models.mixture import split

        classes = split(self.chain(module))[1]
        return [] if classes is None else classes.lines()

    def sampling(self, chain: Any, weaker: Any, recipe: Recipe) -> SamplingPolicy | OnePass:
        """Sampling with its defaults; by default one pass from the latents to the data."""
        from kakusan.run.sampling import OnePass

        return OnePass(chain, recipe, self.form.shows_mean)

    def latents(self, model: TrainedModel, steps: int | None = None, solver: Any = None) -> MeanLatents:
        """Latents of given examples; by default means of the encoder. steps and solver are for diffusion models."""
        from kakusan.run.tools.latents import MeanLatents, refuse_solver

        refuse_solver(model, steps, solver)
        return MeanLatents(model.chain)

    def density_bin_width(self, config: Any) -> float | None:
        """Width of a gray level if the bound is one of a density, to be turned into a probability; else None."""
        from kakusan.likelihoods import as_likelihood

        return self.scale(config).bin_width if as_likelihood(config.likelihood).is_density else None

    def estimate(
        self, model: TrainedModel, data: Tensor, seed: int, law: Any, labels: Tensor | None = None
    ) -> Estimate:
        """The bound of each example of stored data, given its label if it has one."""
        from kakusan.likelihood.chains import of_terms
        from kakusan.likelihood.classes import assigned, with_classes

        if law is not None:
            raise InputError(f"a timestep distribution is for diffusion models; {model.recipe.name} has no timesteps")
        chain, words = model.chain, f"{DRAWS} draws of the latents per example, KL terms in closed form"
        batch = model.batches(data, seed)
        known = assigned(chain, batch, len(data), labels, seed)
        estimate = of_terms(
            lambda x, generator, cond=None: chain.draw_terms(x, cond, generator),
            batch,
            len(data),
            DRAWS,
            2 * chain.depth,
            words,
            seed,
            cond=None if known is None else known.k,
        )
        return estimate if known is None else with_classes(estimate, known)

    def repeats(self, num: int) -> int:
        """Number of estimates to average by default for this many examples."""
        return 1

    def timestep_law(self, model: TrainedModel) -> StepLaw | None:
        """Timestep distribution of an evaluation that does not depend on its data; None without timesteps."""
        return None

    def least_nats(self, model: TrainedModel) -> float | None:
        """Cost per dimension besides the likelihood that no network can lower; None if the variance is not fixed."""
        return 0.0

    def figures(self, model: TrainedModel, held_out: Tensor) -> dict[str, Figure]:
        """Figures of how the model works, by file name; by default reconstructions."""
        from kakusan.run.figures import reconstructions

        return {"reconstructions.png": reconstructions(model, held_out)}

    def details(self, model: TrainedModel, data: Tensor, seed: int) -> dict[str, Any]:
        """Further measures of these examples as plain JSON values, by name."""
        return {}

    def detail_lines(self, details: dict[str, Any]) -> list[str]:
        """The further measures, one line each, for people."""
        return []

    def finish(self, module: Any, data: Tensor) -> tuple[dict[str, Any], list[str]]:
        """Results at the end of training: values for the summary, and lines for people."""
        return {}, []

    def optional_weights(self, event_shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
        """Weights that only training needs, as empty tensors by name."""
        return {}
