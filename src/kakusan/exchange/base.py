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
    """Content of an export, and the results of its checks.

    Attributes:
        content: Bytes of one file; for a folder, the bytes of each file by its relative path with "/".
        lines: Results of the checks made at export, one line of text each.
    """

    content: bytes | Mapping[str, bytes]
    lines: list[str] = field(default_factory=list)


class ExportFormat(abc.ABC):
    """Format that turns a trained model into bytes. `export` writes them completely or not at all.

    Attributes:
        suffix: Ending of the file, e.g. ".safetensors"; "" for a folder.
        takes_files: Whether a file that kakusan exported can be the source, as well as a run directory.
    """

    suffix: ClassVar[str]
    takes_files: ClassVar[bool] = True

    @abc.abstractmethod
    def make(self, source: ModelSource) -> Exported:
        """Return the content, checked against the model itself.

        Raises:
            InputError: If the format cannot hold this kind of model, or a check fails.
        """

    def use(self, out: Path) -> str:
        """Return a line of text that tells how to use the result at this path."""
        return ""
