"""Export as one .safetensors file that kakusan itself loads."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from kakusan.console import command
from kakusan.exchange.base import Exported, ExportFormat
from kakusan.exchange.card import card_of

if TYPE_CHECKING:
    from kakusan.run.source import ModelSource


class SafetensorsFile(ExportFormat):
    """Weights and everything needed to rebuild the model, without paths of this machine; see `run.model_file`."""

    suffix = ".safetensors"
    takes_files = False

    def make(self, source: ModelSource) -> Exported:
        """Return the content of the file."""
        return Exported(dataclasses.replace(source.read_shareable(), card=card_of(source)).to_bytes())

    def use(self, out: Path) -> str:
        """Return the command that samples from the file."""
        return f"sample it with: {command('sample', out)}"
