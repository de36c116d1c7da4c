"""kakusan export: a run's model as the one file that is shared."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from kakusan.cli.arguments import Export
from kakusan.console import tell
from kakusan.errors import InputError, SaveError
from kakusan.run.build import event_shape_of
from kakusan.run.directory import RunDirectory, refuse_inside_a_run
from kakusan.run.model_file import Artefact, Facts, Source
from kakusan.run.recipe import from_record
from kakusan.run.student import used_weights
from kakusan.settings import from_values
from kakusan.storage import files
from kakusan.train import checkpoint

SHARED_VERSIONS = ("kakusan", "python", "torch", "numpy")


def main(command: Export) -> int:
    """Write the file; prints where."""
    out = command.out or Path(f"{command.run.resolve().name}.safetensors")
    if out.suffix != ".safetensors":
        raise InputError(f"--out must end in .safetensors, got {out}")
    if out.exists():
        raise InputError(f"{out} exists and is kept as it is; choose another --out")
    refuse_inside_a_run(out)
    content = of_run(command.run).to_bytes()
    try:
        files.make_folders(out.parent)
        files.replace(out, content)
    except OSError as error:
        raise SaveError(f"cannot write {out} ({error.strerror}); {files.free_words(out.parent)}") from error
    tell(f"{len(content):,} bytes; whoever has the file can type: kakusan sample {out.name}")
    print(out)
    return 0


def of_run(path: Path) -> Artefact:
    """The averaged weights of a run's newest checkpoint and what they are of, without a path of this machine."""
    if path.is_file():
        raise InputError(f"{path} is a file already; kakusan export takes a run directory")
    run = RunDirectory.open(path)
    record, data = run.read("run.json"), run.read("data.json")
    recipe = from_record(record.get("recipe"))
    facts = Facts(
        recipe=dataclasses.replace(recipe, data=Path(recipe.data).name),
        event_shape=event_shape_of(recipe.model, data.get("event_shape")),
        data=from_values(Source, {name: data.get(name) for name in ("name", "kind", "digest")}, "data"),
        versions=_versions(record.get("versions")),
    )
    newest = checkpoint.latest(run.checkpoints)
    early = checkpoint.early_weights(newest) if recipe.family == "diffusion" else None
    shared = Artefact(facts, used_weights(recipe, checkpoint.averaged_weights(newest)), early)
    shared.check(newest)
    return shared


def _versions(versions: Any) -> dict[str, str]:
    known = versions if isinstance(versions, dict) else {}
    return {name: known[name] for name in SHARED_VERSIONS if name in known}
