"""Settings of a recipe: model, data, optimizer and budget. Does not import torch, so that help is instant."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from kakusan.data.options import CHOICES, ImageOptions
from kakusan.errors import InputError, shown
from kakusan.registry import Registry
from kakusan.run.families import FAMILIES
from kakusan.run.families.base import LogSNR, ModelConfig
from kakusan.settings import Between, Length, check, from_values
from kakusan.training.settings import MOST_MINUTES, MOST_STEPS, Optim


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


@dataclass(frozen=True)
class Recipe:
    """A complete experiment: model, data, optimizer and budget."""

    name: Annotated[str, Length(1, 100)]
    summary: Annotated[str, Length(0, 1000)]
    model: ModelConfig
    data: Annotated[str, Length(1, 4096)] = "mnist"
    pictures: ImageOptions = field(default_factory=ImageOptions)
    optim: Optim = field(default_factory=Optim)
    distil: Distil | None = None
    """Distillation settings. If given, the model is a student, and its model settings are those of its teacher."""
    minutes: Annotated[float, Between(0, MOST_MINUTES)] | None = None
    steps: Annotated[int, Between(0, MOST_STEPS)] | None = None

    def __post_init__(self):
        check(self, "recipe")
        if self.distil is not None and not self.model.guided:
            raise InputError(
                f"recipe.distil makes a student of a diffusion model, got a {self.family} model; omit recipe.distil"
            )

    @property
    def family(self) -> str:
        """Name of the model family in `FAMILIES`."""
        return self.model.family

    def record(self) -> dict[str, Any]:
        """Return plain JSON values that `from_record` reads back."""
        record: dict[str, Any] = {"family": self.family, **dataclasses.asdict(self)}
        for name in ("fit", "cache"):  # only used when the data are first read, and a path of this machine
            if not record["pictures"][name] or name == "cache":
                del record["pictures"][name]
        return record


def without_label_path(recipe: Recipe) -> Recipe:
    """Return the recipe without the path of a label table, because a reader of a shared file must not open such a path."""
    if recipe.pictures.labels in (None, *CHOICES):
        return recipe
    return dataclasses.replace(recipe, pictures=dataclasses.replace(recipe.pictures, labels=None))


RECIPES = Registry(
    "recipe",
    {
        "images": "kakusan.recipes.images:RECIPE",
        "mnist-ddpm": "kakusan.recipes.mnist_ddpm:RECIPE",
        "mnist-few": "kakusan.recipes.mnist_few:RECIPE",
        "mnist-transformer": "kakusan.recipes.mnist_transformer:RECIPE",
        "mnist-vae": "kakusan.recipes.mnist_vae:RECIPE",
        "mnist-hvae": "kakusan.recipes.mnist_hvae:RECIPE",
        "book-vae": "kakusan.recipes.book_vae:RECIPE",
        "book-hvae": "kakusan.recipes.book_hvae:RECIPE",
        "book-ddpm": "kakusan.recipes.book_ddpm:RECIPE",
        "binary-iwae": "kakusan.recipes.binary_iwae:RECIPE",
        "binary-best": "kakusan.recipes.binary_best:RECIPE",
        "vae": "kakusan.recipes.vae:RECIPE",
        "hvae": "kakusan.recipes.hvae:RECIPE",
        "learned-noise": "kakusan.recipes.learned_noise:RECIPE",
        "tables": "kakusan.recipes.tables:RECIPE",
        "tables-diffusion": "kakusan.recipes.tables_diffusion:RECIPE",
        "series": "kakusan.recipes.series:RECIPE",
        "counts-dirichlet": "kakusan.recipes.counts_dirichlet:RECIPE",
    },
)

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
    content["model"] = from_values(FAMILIES[family].config, content.get("model"), "model")
    content["optim"] = from_values(Optim, content.get("optim"), "optim")
    if content.get("distil") is not None:
        content["distil"] = from_values(Distil, content["distil"], "distil")
    content["pictures"] = from_values(ImageOptions, content.get("pictures", {}), "pictures")
    return from_values(Recipe, content, "recipe")


def recipe_of(run: Path, record: dict[str, Any]) -> Recipe:
    """Rebuild the recipe of a run from the content of its run.json; an InputError names that file."""
    try:
        return from_record(record["recipe"])
    except InputError as error:
        raise InputError(f"{run / 'run.json'} does not hold a recipe ({error}); the run is damaged") from error
