"""The file one shares: the weights and, in the same file's metadata, all that is needed to rebuild the model.

One safetensors file. Its metadata holds JSON under "kakusan": format, recipe, shape of an example, name, kind and digest
of the data, versions, and a SHA-256 over all of that and over every tensor. Nothing in it is code, a class's name or a
path; a reader builds one of the models that it knows, and allocates nothing before the file has been found to fit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from torch import Tensor

from kakusan.errors import InputError, shown
from kakusan.run.build import blueprint, event_shape_of
from kakusan.run.families.dirichlet import DirichletConfig
from kakusan.run.recipe import Recipe, from_record
from kakusan.settings import Between, Length, check, from_values
from kakusan.storage import records, tensors

FORMAT = 1
KEY = "kakusan"
EARLY = "early."  # before the names of the weights of the run's beginning
ROWS = "log_gamma"  # what a fit of counts learned of each row of its data: not shared

Text = Annotated[str, Length(1, 200)]


@dataclass(frozen=True)
class Source:
    """The data that a model was trained on."""

    name: Text
    kind: Literal["images", "counts"]
    digest: Annotated[str, Length(64, 64)]

    def __post_init__(self):
        check(self, "data")


@dataclass(frozen=True)
class Facts:
    """What an artefact says beside its weights."""

    recipe: Recipe
    event_shape: tuple[int, ...]
    data: Source
    versions: dict[Text, Text]
    format: Annotated[int, Between(FORMAT, FORMAT)] = FORMAT

    def __post_init__(self):
        check(self, "artefact")

    def record(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "event_shape": list(self.event_shape), "recipe": self.recipe.record()}

    def expected(self, with_early: bool) -> tensors.Expected:
        """The tensors of its file."""
        plain = {name: kind for name, kind in blueprint(self.recipe.model, self.event_shape).items() if name != ROWS}
        return plain | ({EARLY + name: kind for name, kind in plain.items()} if with_early else {})


@dataclass(frozen=True)
class Artefact:
    """A model to share."""

    facts: Facts
    weights: dict[str, Tensor]
    early: dict[str, Tensor] | None = None
    """The weights of the run's beginning, which guide sampling."""

    @property
    def named(self) -> dict[str, Tensor]:
        """The tensors of its file."""
        shared = {name: tensor for name, tensor in self.weights.items() if name != ROWS}
        return shared | {EARLY + name: tensor for name, tensor in (self.early or {}).items()}

    def check(self, where: Path) -> None:
        """InputError, naming where the weights are from, unless `read` would take the file."""
        found = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in self.named.items()}
        tensors.check_expected(found, self.facts.expected(self.early is not None), where)

    def to_bytes(self) -> bytes:
        """The file."""
        named = self.named
        record = self.facts.record()
        return tensors.to_bytes(named, {KEY: json.dumps({**record, "sha256": content_hash(record, named)})})


def is_artefact(path: Path) -> bool:
    """Whether a safetensors file calls itself one; InputError if it is not safetensors."""
    return KEY in tensors.header(path).metadata


def read_facts(path: Path) -> Facts:
    """What the file says of its model; the weights are not looked at."""
    return _facts(tensors.header(path).metadata, path)[0]


def read(path: Path) -> Artefact:
    """The model of a file; InputError unless every name, shape, dtype and number is as it must be, and the hash too."""
    named, metadata = tensors.read(path, lambda head: _expected(_facts(head.metadata, path)[0], head))
    facts, record, claimed = _facts(metadata, path)
    found = content_hash(record, named)
    if found != claimed:
        raise InputError(
            f"{path} is damaged: its content has the SHA-256 {found}, and it says {shown(claimed)}; get the file again, "
            "or write it anew with kakusan export RUN"
        )
    early = {name.removeprefix(EARLY): tensor for name, tensor in named.items() if name.startswith(EARLY)}
    weights = {name: tensor for name, tensor in named.items() if not name.startswith(EARLY)}
    return Artefact(facts, weights, early or None)


def content_hash(record: Mapping[str, Any], named: Mapping[str, Tensor]) -> str:
    """SHA-256 of the record, as JSON with sorted keys, and of every tensor with its name, dtype and shape."""
    kinds = {name: [str(tensor.dtype), list(tensor.shape)] for name, tensor in named.items()}
    text = json.dumps([record, kinds, tensors.digest(named)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _facts(metadata: Mapping[str, str], path: Path) -> tuple[Facts, dict[str, Any], Any]:
    """What the metadata say, as checked facts and word for word, and the hash that they claim."""
    if KEY not in metadata:
        raise InputError(f"{path} holds weights alone, and not what they are of; kakusan export RUN writes both")
    record = records.parse(metadata[KEY], f"{path}: its record")
    if not isinstance(record, dict):
        raise InputError(f"{path}: its record must be a table, got {shown(record)}")
    if record.get("format") != FORMAT:
        raise InputError(f"{path} is of format {shown(record.get('format'))}, and this version reads format {FORMAT}")
    claimed = record.pop("sha256", None)
    try:
        recipe = from_record(record.get("recipe"))
        source = from_values(Source, record.get("data"), "data")
        shape = event_shape_of(recipe.model, record.get("event_shape"))
        facts = from_values(Facts, {**record, "recipe": recipe, "data": source, "event_shape": shape}, "artefact")
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if source.kind != ("counts" if isinstance(recipe.model, DirichletConfig) else "images"):
        raise InputError(f"{path}: a {recipe.family} model is not one of {source.kind}")
    return facts, record, claimed


def _expected(facts: Facts, head: tensors.Header) -> tensors.Expected:
    """The tensors that the file must have: all the early weights if it has one of them."""
    with_early = facts.recipe.family == "diffusion" and any(name.startswith(EARLY) for name in head.entries)
    return facts.expected(with_early)
