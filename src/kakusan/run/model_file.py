"""Exported model file: the weights, and metadata with everything needed to rebuild the model.

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

from kakusan.console import command
from kakusan.data.forms import FORMS
from kakusan.errors import InputError, shown
from kakusan.run.build import blueprint, event_shape_of, family_of
from kakusan.run.recipe import Recipe, from_record
from kakusan.settings import Between, Length, check, from_values
from kakusan.storage import records, tensors

FORMAT = 1
KEY = "kakusan"
CARD = "card"  # key of the model card (readable text) in the metadata
LONGEST_CARD = 20_000  # characters
EARLY = "early."  # prefix of the weights from early in the run
ROWS = "log_gamma"  # posterior of each training row of counts; not exported

if TYPE_CHECKING:
    Kind = str
else:
    Kind = Literal[*FORMS]
Text = Annotated[str, Length(1, 200)]


@dataclass(frozen=True)
class Source:
    """Description of the data on which a model was trained."""

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
        """Return name, shape and dtype of each tensor of the file."""
        plain = {name: kind for name, kind in blueprint(self.recipe.model, self.event_shape).items() if name != ROWS}
        return plain | ({EARLY + name: kind for name, kind in plain.items()} if with_early else {})


@dataclass(frozen=True)
class ExportedModel:
    """Weights of an exported model with their description."""

    facts: Facts
    weights: dict[str, Tensor]
    early: dict[str, Tensor] | None = None
    """Averaged weights from early in the run, for autoguidance."""
    card: str = ""
    """Model card as text. The hash does not include it."""

    @property
    def named(self) -> dict[str, Tensor]:
        """Return the tensors of the file by name."""
        shared = {name: tensor for name, tensor in self.weights.items() if name != ROWS}
        return shared | {EARLY + name: tensor for name, tensor in (self.early or {}).items()}

    def check(self, where: Path) -> None:
        """Raise InputError unless `read` would accept the exported file; the message names the source `where`."""
        found = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in self.named.items()}
        tensors.check_expected(found, self.facts.expected(self.early is not None), where)

    def to_bytes(self) -> bytes:
        """Return the content of the file."""
        named = self.named
        record = self.facts.record()
        card = {CARD: self.card} if self.card else {}
        return tensors.to_bytes(named, {KEY: json.dumps({**record, "sha256": content_hash(record, named)}), **card})


def is_exported(path: Path) -> bool:
    """Return whether a safetensors file is an exported model; InputError if it is not safetensors."""
    return KEY in tensors.header(path).metadata


def read_facts(path: Path) -> Facts:
    """Read and return the description in a file, without the weights."""
    return _facts(tensors.header(path).metadata, path)[0]


def read(path: Path) -> ExportedModel:
    """Read an exported model. InputError unless the hash and every name, shape, dtype and number are as expected."""
    named, metadata = tensors.read(path, lambda head: _expected(_facts(head.metadata, path)[0], head))
    facts, record, claimed = _facts(metadata, path)
    found = content_hash(record, named)
    if found != claimed:
        raise InputError(
            f"{path} is damaged: its content has the SHA-256 {found}, expected {shown(claimed)}; get the file again, "
            f"or write it again with: {command('export', 'RUN')}"
        )
    early = {name.removeprefix(EARLY): tensor for name, tensor in named.items() if name.startswith(EARLY)}
    weights = {name: tensor for name, tensor in named.items() if not name.startswith(EARLY)}
    return ExportedModel(facts, weights, early or None, metadata.get(CARD, "")[:LONGEST_CARD])


def content_hash(record: Mapping[str, Any], named: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over the record (JSON with sorted keys) and every tensor with its name, dtype and shape."""
    kinds = {name: [str(tensor.dtype), list(tensor.shape)] for name, tensor in named.items()}
    text = json.dumps([record, kinds, tensors.digest(named)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _facts(metadata: Mapping[str, str], path: Path) -> tuple[Facts, dict[str, Any], Any]:
    """Return the checked description in the metadata, its verbatim record, and the hash that the metadata claim."""
    if KEY not in metadata:
        raise InputError(
            f"{path} holds weights without a description of the model; {command('export', 'RUN')} writes both"
        )
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
    """Return the tensors that the file must have. If it has one early weight, it must have all of them."""
    with_early = facts.recipe.model.guided and any(name.startswith(EARLY) for name in head.entries)
    return facts.expected(with_early)
