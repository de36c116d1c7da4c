"""Exported model file: the weights and, in its metadata, everything needed to rebuild the model.

The file is in safetensors format. Its metadata holds JSON under "kakusan": format, recipe, shape of an example, name,
kind and digest of the data, versions, and a SHA-256 of all of that and of every tensor. It contains no code, class name
or path. The reader builds one of the models that it knows, and allocates nothing before the file has been checked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from torch import Tensor

from kakusan.data.forms import FORMS
from kakusan.errors import InputError, shown
from kakusan.run.build import blueprint, event_shape_of, family_of
from kakusan.run.recipe import Recipe, from_record
from kakusan.settings import Between, Length, check, from_values
from kakusan.storage import records, tensors

FORMAT = 1
KEY = "kakusan"
CARD = "card"  # in the metadata: the model card, as text for people
LONGEST_CARD = 20_000  # characters
EARLY = "early."  # prefix of the weights from early in the run
ROWS = "log_gamma"  # posterior of each row of the training counts; not exported

if TYPE_CHECKING:
    Kind = str
else:
    Kind = Literal[*FORMS]
Text = Annotated[str, Length(1, 200)]


@dataclass(frozen=True)
class Source:
    """Data that a model was trained on."""

    name: Text
    kind: Kind
    digest: Annotated[str, Length(64, 64)]

    def __post_init__(self):
        check(self, "data")


@dataclass(frozen=True)
class Facts:
    """Description of an exported model without its weights."""

    recipe: Recipe
    event_shape: tuple[int, ...]
    data: Source
    versions: dict[Text, Text]
    format: Annotated[int, Between(FORMAT, FORMAT)] = FORMAT

    def __post_init__(self):
        check(self, "model file")

    def record(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "event_shape": list(self.event_shape), "recipe": self.recipe.record()}

    def expected(self, with_early: bool) -> tensors.Expected:
        """Name, shape and dtype of each tensor of its file."""
        plain = {name: kind for name, kind in blueprint(self.recipe.model, self.event_shape).items() if name != ROWS}
        return plain | ({EARLY + name: kind for name, kind in plain.items()} if with_early else {})


@dataclass(frozen=True)
class ExportedModel:
    """Exported model."""

    facts: Facts
    weights: dict[str, Tensor]
    early: dict[str, Tensor] | None = None
    """Averaged weights from early in the run, for autoguidance."""
    card: str = ""
    """Model card, text for people; it is no part of the hash."""

    @property
    def named(self) -> dict[str, Tensor]:
        """The tensors of its file."""
        shared = {name: tensor for name, tensor in self.weights.items() if name != ROWS}
        return shared | {EARLY + name: tensor for name, tensor in (self.early or {}).items()}

    def check(self, where: Path) -> None:
        """Raise InputError that names the source of the weights, unless `read` would accept the file."""
        found = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in self.named.items()}
        tensors.check_expected(found, self.facts.expected(self.early is not None), where)

    def to_bytes(self) -> bytes:
        """Content of the file."""
        named = self.named
        record = self.facts.record()
        card = {CARD: self.card} if self.card else {}
        return tensors.to_bytes(named, {KEY: json.dumps({**record, "sha256": content_hash(record, named)}), **card})


def is_exported(path: Path) -> bool:
    """True if a safetensors file is an exported model; InputError if it is not safetensors."""
    return KEY in tensors.header(path).metadata


def read_facts(path: Path) -> Facts:
    """Read the description of a file without its weights."""
    return _facts(tensors.header(path).metadata, path)[0]


def read(path: Path) -> ExportedModel:
    """Read a file; InputError unless every name, shape, dtype, number and the hash are as expected."""
    named, metadata = tensors.read(path, lambda head: _expected(_facts(head.metadata, path)[0], head))
    facts, record, claimed = _facts(metadata, path)
    found = content_hash(record, named)
    if found != claimed:
        raise InputError(
            f"{path} is damaged: its content has the SHA-256 {found}, expected {shown(claimed)}; get the file again, "
            "or write it again with kakusan export RUN"
        )
    early = {name.removeprefix(EARLY): tensor for name, tensor in named.items() if name.startswith(EARLY)}
    weights = {name: tensor for name, tensor in named.items() if not name.startswith(EARLY)}
    return ExportedModel(facts, weights, early or None, metadata.get(CARD, "")[:LONGEST_CARD])


def content_hash(record: Mapping[str, Any], named: Mapping[str, Tensor]) -> str:
    """SHA-256 of the record, as JSON with sorted keys, and of every tensor with its name, dtype and shape."""
    kinds = {name: [str(tensor.dtype), list(tensor.shape)] for name, tensor in named.items()}
    text = json.dumps([record, kinds, tensors.digest(named)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _facts(metadata: Mapping[str, str], path: Path) -> tuple[Facts, dict[str, Any], Any]:
    """Description in the metadata, checked and verbatim, and the hash that it claims."""
    if KEY not in metadata:
        raise InputError(f"{path} holds weights without a description of the model; kakusan export RUN writes both")
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
        facts = from_values(Facts, {**record, "recipe": recipe, "data": source, "event_shape": shape}, "model file")
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if source.kind != family_of(recipe.model).kind:
        raise InputError(f"{path}: a {recipe.family} model is not one of {source.kind}")
    return facts, record, claimed


def _expected(facts: Facts, head: tensors.Header) -> tensors.Expected:
    """The tensors that the file must have: all the early weights if it has one of them."""
    with_early = facts.recipe.model.guided and any(name.startswith(EARLY) for name in head.entries)
    return facts.expected(with_early)
