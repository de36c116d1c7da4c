"""Read-only examination of a run or an exported file, with the command to type next."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kakusan.console import command
from kakusan.errors import DamageWarning, InputError
from kakusan.run import model_file
from kakusan.run.directory import TEACHER, RunDirectory, owner_words, resume_command
from kakusan.run.own_data import open_for
from kakusan.run.recipe import Recipe, recipe_of
from kakusan.run.teacher import kept_teacher
from kakusan.storage import commit
from kakusan.training import checkpoint

RECORDS = ("run.json", "data.json", "summary.json")


@dataclass
class Findings:
    """Result of an examination. The fields are the keys of `--json`."""

    run: str
    finished: bool
    in_use_by: dict[str, Any] | None  # pid, host, since, command; empty if unknown
    records: dict[str, str] = field(default_factory=dict)  # name of each damaged record and the reason
    checkpoints: dict[str, list[str]] = field(default_factory=dict)  # oldest first: name and problems of each
    data: str = ""
    data_changed: bool = False
    set_aside: list[str] = field(default_factory=list)  # names of damaged checkpoints that were replaced
    is_file: bool = False  # True for an exported file
    to_type: str | None = None  # command to continue; None while in use, or if nothing can be saved

    @property
    def damaged(self) -> bool:
        """Return whether anything differs from what the run wrote."""
        return bool(self.records) or any(self.checkpoints.values()) or self.data_changed

    def record(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"damaged": self.damaged}

    def lines(self) -> list[str]:
        """Return the findings as lines of text."""
        if self.is_file:
            damage = [f"DAMAGED: {reason}" for reason in self.records.values()]
            return damage or [f"{self.run}: exported model, intact", f"continue with: {self.to_type}"]
        lines = [f"{self.run}: {'finished' if self.finished else 'not finished'}"]
        if self.in_use_by is not None:
            lines[0] += f", in use by {owner_words(self.in_use_by)}"
        lines += [f"DAMAGED: {reason}" for reason in self.records.values()]
        for name, problems in self.checkpoints.items():
            damage = [f"checkpoints/{name}: DAMAGED: {problem}" for problem in problems]
            lines += damage or [f"checkpoints/{name}: intact"]
        if not self.checkpoints:
            lines.append("no checkpoint yet")
        lines += [
            f"checkpoints/{name}: damaged, renamed and never used again; you may delete it" for name in self.set_aside
        ]
        lines.append(f"{'DAMAGED: ' if self.data_changed else ''}data: {self.data}")
        if self.data_changed:
            lines.append("restore the data before continuing")
        if self.to_type is not None:
            lines.append(f"continue with: {self.to_type}")
        elif self.in_use_by is None:
            lines.append("the run cannot continue without these records; train again with another --out")
        return lines


def examine(path: Path | str) -> Findings:
    """Verify all checksums, the records and the data of a run directory or an exported file, and return the findings."""
    path = Path(path)
    if path.is_file() and path.suffix == ".safetensors":
        return _examine_file(path)
    run = RunDirectory.open(path)
    findings = Findings(str(path), run.finished, run.owner())
    records = {}
    for name in RECORDS:
        try:
            if name != "summary.json" or run.finished:
                records[name] = run.read(name)
        except InputError as error:
            findings.records[name] = str(error)
    _examine_history(findings, run)
    _examine_checkpoints(findings, run)
    recipe = _examine_recipe(findings, run, records.get("run.json"))
    _examine_data(findings, run, recipe, records.get("data.json"))
    findings.to_type = _to_type(findings, run)
    return findings


def _examine_file(path: Path) -> Findings:
    findings = Findings(str(path), finished=True, in_use_by=None, is_file=True)
    try:
        model_file.read(path)
        findings.to_type = _to_sample(path)
    except InputError as error:
        findings.records[path.name] = str(error)
    return findings


def _examine_history(findings: Findings, run: RunDirectory) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DamageWarning)
            run.history()
    except (InputError, DamageWarning) as error:
        findings.records["history.jsonl"] = str(error)


def _examine_checkpoints(findings: Findings, run: RunDirectory) -> None:
    for folder in commit.published(run.checkpoints):
        problems = commit.verify(folder)
        if folder.exists():  # the writer may have removed it in the meantime
            findings.checkpoints[folder.name] = problems
    findings.set_aside = sorted(folder.name for folder in run.checkpoints.glob("damaged-*"))


def _examine_recipe(findings: Findings, run: RunDirectory, record: dict[str, Any] | None) -> Recipe | None:
    try:
        recipe = recipe_of(run.path, record) if record else None
    except InputError as error:
        findings.records["run.json"] = str(error)
        return None
    if recipe is not None and recipe.distil is not None:
        try:
            kept_teacher(run)
        except InputError as error:
            findings.records[TEACHER] = str(error)
    return recipe


def _examine_data(findings: Findings, run: RunDirectory, recipe: Recipe | None, known: dict[str, Any] | None) -> None:
    if recipe is None or known is None:
        findings.data = "unknown without these records"
        return
    try:
        dataset = open_for(run.path, recipe.data, recipe.pictures)
    except InputError as error:
        findings.data = f"{recipe.data} cannot be opened here ({error})"
        return
    findings.data_changed = not dataset.matches(known["digest"])
    findings.data = f"{recipe.data} {'changed since the run was started' if findings.data_changed else 'unchanged'}"


def _to_type(findings: Findings, run: RunDirectory) -> str | None:
    if findings.in_use_by is not None or {"run.json", "data.json", TEACHER} & findings.records.keys():
        return None
    problems = list(findings.checkpoints.values())
    if problems and all(problems):
        return checkpoint.restart_command(run.checkpoints)
    if "summary.json" in findings.records:  # its presence means finished
        summary = run.path / "summary.json"
        return resume_command(run.path, (summary, summary.with_suffix(".json.before")))
    if findings.finished and problems and not problems[-1]:
        return _to_sample(run.path)
    return resume_command(run.path)


def _to_sample(path: Path) -> str:
    return command("sample", path, "-n", 64)
