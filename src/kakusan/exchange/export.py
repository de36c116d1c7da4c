"""Export of a trained model in one of the formats of `EXPORTS`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kakusan.errors import InputError
from kakusan.exchange import EXPORTS
from kakusan.exchange.base import ExportFormat
from kakusan.progress import stages
from kakusan.run.directory import check_new
from kakusan.run.source import open_source
from kakusan.storage import files


@dataclass(frozen=True)
class Export:
    """Result of an export.

    Attributes:
        path: The new file or folder.
        size: Total size of its files in bytes.
        lines: Results of the checks, and the next command, one line each.
    """

    path: Path
    size: int
    lines: list[str]


def export(run: Path | str, out: Path | str | None = None, format: str = "safetensors") -> Export:
    """Write the model of a run in a format for sharing, which contains no path of this machine.

    Args:
        run: Run directory; for most formats also a file that kakusan exported.
        out: New file or folder (default: the name of the run, with the format's ending, in the current folder).
        format: A name in `EXPORTS`: "safetensors" (default), or a format of another program.

    Raises:
        InputError: If the format cannot hold this model, or `out` exists or lies in a run.
    """
    target: ExportFormat = EXPORTS[format]()
    source = open_source(run)
    if source.run is None and not target.takes_files:
        raise InputError(f"{run} is an exported file already; give a run directory")
    out = Path(out) if out is not None else Path(f"{source.name}{target.suffix or '-' + format}")
    if target.suffix and out.suffix != target.suffix:
        raise InputError(f"--out must end in {target.suffix}, got {out}")
    check_new(out)
    with stages("exporting", 1):  # the formats have stages of their own
        made = target.make(source)
    content = made.content
    with files.writing(out):
        files.make_folders(out.parent)
        if isinstance(content, bytes):
            files.replace(out, content)
        else:
            _write_folder(out, content)
    size = len(content) if isinstance(content, bytes) else sum(map(len, content.values()))
    return Export(out, size, [line for line in (*made.lines, target.use(out)) if line])


def _write_folder(out: Path, content: Mapping[str, bytes]) -> None:
    """Write a folder under a temporary name, and rename it once it is complete."""
    part = out.with_name(f".{out.name}.part")
    if part.exists():  # left by a killed export
        files.remove(part)
    for name, data in content.items():
        files.make_folders((part / name).parent)
        files.replace(part / name, data)
    files.rename(part, out)
    files.sync_folder(out.parent)
