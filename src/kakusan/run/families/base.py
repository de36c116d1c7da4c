"""Interface between recipes and a model family. Does not import torch, so that help is instant."""

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
LARGEST_EVENT = 2**24  # largest number of values in one example
DRAWS = 2  # draws of the latents of each example in an evaluation by terms
# (module, x, indices, randomness) -> (b,); the loss of a conditional model also takes cond=labels
TrainingLoss = Callable[..., "Tensor"]
Figure = tuple["Images", int | None]  # images in reading order, and their number per row (None: a square grid)


class ModelConfig:
    """Base of the settings of a family: a frozen dataclass with a `family` name.

    Attributes:
        conditional: Whether the model can be conditional on labels or clusters.
        guided: Whether the model can be autoguided by weights from early in the run, and distilled.
    """

    family = ""
    guided = False
    conditional = False

    @property
    def kind_of_condition(self) -> Literal["none", "clusters", "labels"]:
        """Return what the model is conditional on."""
        return "none"

    @property
    def column_of_labels(self) -> str:
        """Return the name of the column of a table that holds the labels; empty without one."""
        return ""

    def for_labels(self, dataset: Dataset) -> Any:
        """Return the settings adapted to the labels of these data."""
        return self


class Family(abc.ABC):
    """Family of models: its settings, and how a model is built, trained, evaluated and shown.

    Every method except `build` has a default, which suits an image model with `LatentChain.terms`.

    Attributes:
        name: Name in recipes and records.
        config: Settings, a subclass of `ModelConfig`.
        kind: Kind of data, a name in `kakusan.data.forms.FORMS`.
        draws_latents: Whether an importance-weighted bound and figures of reconstructions make sense.
        closed_form: Whether the bound is computed without network evaluations, so that all examples are measured.
        has_bound: Whether given examples can be scored.
        estimators: Names of additional estimators of the ELBO.
        splits_over_threads: Whether micro-batches on several threads are faster than one.
        terms_are: Form of the terms of the bound, in words.
    """

    name: ClassVar[str]
    config: ClassVar[type[ModelConfig]]
    kind: ClassVar[str] = "images"
    draws_latents: ClassVar[bool] = True
    closed_form: ClassVar[bool] = False
    has_bound: ClassVar[bool] = True
    estimators: ClassVar[tuple[str, ...]] = ()
    splits_over_threads: ClassVar[bool] = False
    terms_are: ClassVar[str] = "KL terms in closed form"

    @abc.abstractmethod
    def build(self, config: Any, event_shape: tuple[int, ...]) -> nn.Module:
        """Build an untrained module of these settings."""

    @property
    def form(self) -> Form:
        """The form of the data, see `kakusan.data.forms`."""
        return FORMS[self.kind]()

    def student(self) -> Family:
        """The family of students distilled from such a model; InputError if it cannot be distilled."""
        raise InputError(
            f"recipe.distil makes a student of a diffusion model, got a {self.name} model; omit recipe.distil"
        )

    def for_data(self, config: Any, dataset: Dataset, own_data: bool) -> Any:
        """Return the settings completed for these data; `own_data` is true if they are not the recipe's default data."""
        return config

    def plan(self, config: Any, event_shape: tuple[int, ...], num_examples: int) -> tuple[Any, str]:
        """Choose a network for the shape and number of examples; return the settings, and the choice as text."""
        return config, ""

    def observe(self, module: Any, config: Any, data: Tensor, augment: str, labels: Tensor | None) -> None:
        """Compute the clusters, or the distribution of the labels, on which the model is conditional."""
        from kakusan.models.mixture import split
        from kakusan.run.families.conditional import observe

        if split(module)[1] is not None:
            observe(module, self.scale(config), data, augment, labels)

    def conform(self, config: Any, dataset: Dataset) -> Dataset:
        """Convert data other than the run's own to the form of the training data; InputError if they do not fit."""
        return dataset

    def reading(self, config: Any, options: ImageOptions) -> ImageOptions:
        """Return the options for reading data other than the run's own."""
        return options

    def chain(self, module: Any) -> Any:
        """Return the `LatentChain` of a trained module."""
        return module

    def event_shape(self, values: Any) -> tuple[int, ...]:
        """Return the shape of an example from its value in a JSON record.

        Raises:
            InputError: If examples of this form cannot have that shape.
        """
        whole = isinstance(values, list) and all(type(value) is int and 0 < value <= LARGEST_EVENT for value in values)
        if not whole or not self.form.fits(tuple(values)):
            raise InputError(f"the record's event_shape must be {self.form.shape_words}, got {shown(values)}")
        return tuple(values)

    def scale(self, config: Any) -> Any:
        """Return the scale that maps stored values to the model's values."""
        from kakusan.data.scale import Scale
        from kakusan.likelihoods import as_likelihood

        likelihood = as_likelihood(config.likelihood)
        return Scale(likelihood.low, likelihood.high, likelihood.binary)

    def inputs(self, config: Any, examples: Tensor, augment: str, randomness: Randomness) -> Tensor:
        """Convert stored examples to the model's values, augmented as in training."""
        from kakusan.data.augment import augmented

        return self.scale(config).to_model(augmented(examples, augment, randomness), randomness)

    def prepare(self, module: Any, data: Tensor, augment: str) -> None:  # noqa: B027 - most families do nothing here
        """Initialize an untrained module from the training data, e.g. with mean pixels."""

    def loss(self, config: Any) -> TrainingLoss:
        """Return the training loss: (module, x, indices, randomness) -> loss of each example, shape (b,).

        A conditional model receives the labels as the keyword `cond`.
        """
        return lambda module, x, indices, randomness, **known: module.loss(x, randomness, **known)

    def terms(
        self, config: Any, module: Any, x: Tensor, randomness: Randomness, cond: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the terms of the bound in nats, each (b,); empty if the loss is not their sum."""
        return module.draw_terms(x, cond, randomness)

    def is_cheap(self, config: Any) -> bool:
        """Return whether a training step is cheap enough to measure its memory and operations before training."""
        return True

    def start_lines(self, module: Any) -> list[str]:
        """Return messages about a module initialized from the training data, e.g. the number of clusters found."""
        from kakusan.models.mixture import split

        classes = split(self.chain(module))[1]
        return [] if classes is None else classes.lines()

    def sampling(self, chain: Any, weaker: Any, recipe: Recipe) -> SamplingPolicy | OnePass:
        """Return the sampling policy; by default one pass from the latents to the data."""
        from kakusan.run.sampling import OnePass

        return OnePass(chain, recipe, self.form.shows_mean)

    def latents(self, model: TrainedModel, steps: int | None = None, solver: Any = None) -> MeanLatents:
        """Return a `MeanLatents` by default. Only diffusion models use `steps` and `solver`."""
        from kakusan.run.tools.latents import MeanLatents, refuse_solver

        refuse_solver(model, steps, solver)
        return MeanLatents(model.chain)

    def density_bin_width(self, config: Any) -> float | None:
        """Return the width of a gray level, which turns a density into a probability; None if the bound needs no width."""
        from kakusan.likelihoods import as_likelihood

        return self.scale(config).bin_width if as_likelihood(config.likelihood).is_density else None

    def estimate(
        self, model: TrainedModel, data: Tensor, seed: int, law: Any, labels: Tensor | None = None
    ) -> Estimate:
        """Estimate the bound of each stored example, given its label if it has one."""
        from kakusan.likelihood.chains import of_terms
        from kakusan.likelihood.classes import assigned, with_classes

        if law is not None:
            raise InputError(f"a timestep distribution is for diffusion models; {model.recipe.name} has no timesteps")
        chain, words = model.chain, f"{DRAWS} draws of the latents per example, {self.terms_are}"
        batch = model.batches(data, seed)
        known = assigned(chain, batch, len(data), labels, seed)
        estimate = of_terms(
            lambda x, generator, cond=None: chain.draw_terms(x, cond, generator),
            batch,
            len(data),
            DRAWS,
            self.evaluations_per_draw(chain),
            words,
            seed,
            cond=None if known is None else known.k,
        )
        return estimate if known is None else with_classes(estimate, known)

    def evaluations_per_draw(self, chain: Any) -> int:
        """Return the number of network evaluations for one draw of the terms: by default an encoder and a decoder per level."""
        return 2 * chain.depth

    def repeats(self, num: int) -> int:
        """Return the default number of estimates to average for this many examples."""
        return 1

    def timestep_law(self, model: TrainedModel) -> StepLaw | None:
        """Return a timestep distribution for evaluation that does not depend on the data; None without timesteps."""
        return None

    def least_nats(self, model: TrainedModel) -> float | None:
        """Return the least nats per dimension of all terms but the likelihood; None if the variance is not fixed."""
        return 0.0

    def figures(self, model: TrainedModel, held_out: Tensor) -> dict[str, Figure]:
        """Return figures that show how the model works, by file name; by default reconstructions."""
        from kakusan.run.figures import reconstructions

        return {"reconstructions.png": reconstructions(model, held_out)}

    def details(self, model: TrainedModel, data: Tensor, seed: int) -> dict[str, Any]:
        """Return additional measures of these examples by name, as plain JSON values."""
        return {}

    def detail_lines(self, details: dict[str, Any]) -> list[str]:
        """Return the additional measures as lines of text."""
        return []

    def finish(self, module: Any, data: Tensor) -> tuple[dict[str, Any], list[str]]:
        """Return results at the end of training: values for the summary, and lines of text."""
        return {}, []

    def optional_weights(self, event_shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
        """Return the weights that only training needs, by name, as empty tensors."""
        return {}
