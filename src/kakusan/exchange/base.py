"""The interface of an export format."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from kakusan.run.source import ModelSource


@dataclass(frozen=True)
class Exported:
    """Content of an export, and what its checks found.

    Attributes:
        content: Bytes of one file, or for a folder the bytes of each file by its path within it, with "/".
        lines: Results of the checks made at export, one line each, for people.
    """

    content: bytes | Mapping[str, bytes]
    lines: list[str] = field(default_factory=list)


class ExportFormat(abc.ABC):
    """One format: it turns a trained model into bytes; `export` writes them, whole or not at all.

    Attributes:
        suffix: Ending of the file, e.g. ".safetensors"; "" for a folder.
        takes_files: Whether a file that kakusan exported can be the source, besides a run directory.
    """

    suffix: ClassVar[str]
    takes_files: ClassVar[bool] = True

    @abc.abstractmethod
    def make(self, source: ModelSource) -> Exported:
        """The content, checked against the model itself.

        Raises:
            InputError: If this kind of model has no such form, or a check fails.
        """

    def use(self, out: Path) -> str:
        """One line for people: how to use the result at this path."""
        return ""
