"""Export of a run's model as one file to share."""

from __future__ import annotations

from pathlib import Path

from kakusan.errors import InputError
from kakusan.run.directory import refuse_inside_a_run
from kakusan.run.source import open_source
from kakusan.storage import files


def export(run: Path | str, out: Path | None = None) -> Path:
    """Write the model of a run directory to a `.safetensors` file, without paths of this machine.

    Args:
        run: Run directory.
        out: File to create (default: RUN.safetensors in the current folder); an existing one is left unchanged.

    Returns:
        The file.
    """
    source = open_source(run)
    if source.run is None:
        raise InputError(f"{run} is an exported file already; give a run directory")
    out = out or Path(f"{source.name}.safetensors")
    if out.suffix != ".safetensors":
        raise InputError(f"--out must end in .safetensors, got {out}")
    if out.exists():
        raise InputError(f"{out} exists and is left unchanged; choose another --out")
    refuse_inside_a_run(out)
    content = source.read_shareable().to_bytes()
    with files.writing(out):
        files.make_folders(out.parent)
        files.replace(out, content)
    return out
