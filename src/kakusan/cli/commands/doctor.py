"""kakusan doctor: whether a run, or a shared file, is whole, who works on it, and what to type to go on. Changes nothing."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kakusan.cli.arguments import Doctor
from kakusan.console import tell
from kakusan.data.open import open_data
from kakusan.errors import InputError, printable
from kakusan.run import model_file
from kakusan.run.directory import TEACHER, RunDirectory, owner_words, to_go_on
from kakusan.run.recipe import Recipe, from_record
from kakusan.run.teacher import kept_teacher
from kakusan.storage import commit
from kakusan.train import checkpoint

DAMAGED = 1
RECORDS = ("run.json", "data.json", "summary.json")


@dataclass
class Findings:
    """What was found; the keys of `--json`."""

    run: str
    finished: bool
    in_use_by: dict[str, Any] | None  # pid, host, since, command; empty if that cannot be told
    records: dict[str, str] = field(default_factory=dict)  # those that cannot be used, and why
    checkpoints: dict[str, list[str]] = field(default_factory=dict)  # oldest first, each with what is wrong with it
    data: str = ""
    data_changed: bool = False
    set_aside: list[str] = field(default_factory=list)  # damaged ones whose place another has taken
    is_file: bool = False  # of `kakusan export`, and no run
    to_type: str | None = None  # to go on; nothing while another process works on it, or if nothing can be saved

    @property
    def damaged(self) -> bool:
        """Whether something is not as the run wrote it."""
        return bool(self.records) or any(self.checkpoints.values()) or self.data_changed


def main(command: Doctor) -> int:
    """Look, say, and return 1 if something is damaged."""
    findings = examine_file(command.run) if _is_shared(command.run) else examine(command.run)
    if command.json:
        print(json.dumps(asdict(findings) | {"damaged": findings.damaged}))
    else:
        print(*map(printable, _lines(findings)), sep="\n")
    return DAMAGED if findings.damaged else 0


def _is_shared(path: Path) -> bool:
    return path.is_file() and path.suffix == ".safetensors"


def examine(path: Path) -> Findings:
    """Read all that has a checksum, and the records that a run cannot go on without."""
    run = RunDirectory.open(path)
    findings = Findings(str(path), run.finished, run.owner())
    records = {}
    for name in RECORDS:
        try:
            if name != "summary.json" or run.finished:
                records[name] = run.read(name)
        except InputError as error:
            findings.records[name] = str(error)
    for folder in commit.published(run.checkpoints):
        problems = commit.verify(folder)
        if folder.exists():  # the process that works on the run may just have dropped it
            findings.checkpoints[folder.name] = problems
    findings.set_aside = sorted(folder.name for folder in run.checkpoints.glob("damaged-*"))
    try:
        recipe = from_record(records["run.json"]["recipe"]) if "run.json" in records else None
    except (InputError, KeyError) as error:
        recipe, findings.records["run.json"] = None, f"{path / 'run.json'} does not hold a recipe ({error})"
    if recipe is not None and recipe.distil is not None:
        try:
            kept_teacher(run)
        except InputError as error:
            findings.records[TEACHER] = str(error)
    _examine_data(findings, recipe, records.get("data.json"))
    findings.to_type = _to_type(findings, run)
    return findings


def examine_file(path: Path) -> Findings:
    """Read a file of `kakusan export`, as whoever uses it does."""
    findings = Findings(str(path), finished=True, in_use_by=None, is_file=True)
    try:
        model_file.read(path)
        findings.to_type = _to_sample(path)
    except InputError as error:
        findings.records[path.name] = str(error)
    return findings


def _examine_data(findings: Findings, recipe: Recipe | None, known: dict[str, Any] | None) -> None:
    if recipe is None or known is None:
        findings.data = "what they were cannot be told"
        return
    try:
        found = open_data(recipe.data, recipe.pictures, tell).digest()
    except InputError as error:
        findings.data = f"{recipe.data} cannot be opened here ({error})"
        return
    findings.data_changed = found != known.get("digest")
    findings.data = (
        f"{recipe.data} {'have changed since the run began' if findings.data_changed else 'are as they were'}"
    )


def _to_type(findings: Findings, run: RunDirectory) -> str | None:
    if findings.in_use_by is not None or {"run.json", "data.json", TEACHER} & findings.records.keys():
        return None
    problems = list(findings.checkpoints.values())
    if problems and all(problems):
        return checkpoint.to_begin_anew(run.checkpoints)
    if "summary.json" in findings.records:  # its presence says finished
        summary = run.path / "summary.json"
        return to_go_on(run.path, (summary, summary.with_suffix(".json.before")))
    if findings.finished and problems and not problems[-1]:
        return _to_sample(run.path)
    return to_go_on(run.path)


def _to_sample(path: Path) -> str:
    return shlex.join(["kakusan", "sample", str(path), "-n", "64"])


def _lines(findings: Findings) -> list[str]:
    if findings.is_file:
        damage = [f"DAMAGED: {reason}" for reason in findings.records.values()]
        return damage or [f"{findings.run}: a model to share, whole", f"go on with: {findings.to_type}"]
    lines = [f"{findings.run}: {'finished' if findings.finished else 'not finished'}"]
    if findings.in_use_by is not None:
        lines[0] += f", in use by {owner_words(findings.in_use_by)}"
    lines += [f"DAMAGED: {reason}" for reason in findings.records.values()]
    for name, problems in findings.checkpoints.items():
        lines += [f"checkpoints/{name}: DAMAGED: {problem}" for problem in problems] or [f"checkpoints/{name}: whole"]
    if not findings.checkpoints:
        lines.append("no checkpoint yet")
    lines += [
        f"checkpoints/{name}: a damaged one, set aside and never used again; delete it when you like"
        for name in findings.set_aside
    ]
    lines.append(f"{'DAMAGED: ' if findings.data_changed else ''}data: {findings.data}")
    if findings.data_changed:
        lines.append("put the data back as they were before going on")
    if findings.to_type is not None:
        lines.append(f"go on with: {findings.to_type}")
    elif findings.in_use_by is None:
        lines.append("it cannot go on without these records; train it anew with another --out")
    return lines
