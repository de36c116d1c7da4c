"""The teacher of a student's run: read once, and kept in the run, so that its own place may vanish."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import torch

from kakusan.cli.commands.export import of_run
from kakusan.console import tell
from kakusan.errors import InputError, shown
from kakusan.models.diffusion import Diffusion
from kakusan.run import model_file
from kakusan.run.directory import TEACHER, RunDirectory
from kakusan.run.model_file import Artefact
from kakusan.run.recipe import Recipe, from_record
from kakusan.run.student import student_recipe
from kakusan.run.trained_model import of_artefact

DIGEST = "teacher_sha256"  # in run.json: of the file that the run keeps


def read_teacher(path: Path | None) -> tuple[Artefact, Recipe]:
    """What is kept of it, and its recipe with the place of its data; InputError if there is none."""
    if path is None:
        raise InputError("a student needs a teacher, a run or an exported file: add --teacher runs/demo")
    if path.is_file():
        shared = model_file.read(path)
        return shared, shared.facts.recipe
    return of_run(path), from_record(RunDirectory.open(path).read("run.json").get("recipe"))


def student_of(recipe: Recipe, teacher: Artefact) -> Recipe:
    """The recipe for students with what this teacher settles; InputError if it cannot teach."""
    student = student_recipe(recipe, teacher.facts.recipe)
    if teacher.early is not None or student.distil is None or student.distil.guidance == 1:
        return student
    tell(f"the teacher keeps no early weights to be guided by: --distil.guidance is 1, not {student.distil.guidance:g}")
    return dataclasses.replace(student, distil=dataclasses.replace(student.distil, guidance=1.0))


def keep_teacher(run: RunDirectory, teacher: Artefact) -> dict[str, str]:
    """Write it into a student's run; what run.json says of it."""
    content = teacher.to_bytes()
    run.write_bytes(TEACHER, content)
    return {DIGEST: hashlib.sha256(content).hexdigest()}


def kept_teacher(run: RunDirectory) -> Artefact:
    """The teacher in a student's run; InputError if it is damaged, missing, or not the one that the run began with."""
    path, known = run.path / TEACHER, run.read("run.json").get(DIGEST)
    teacher = model_file.read(path)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != known:
        raise InputError(
            f"{path} is not the teacher that the run began with: it has the SHA-256 {found}, and run.json says "
            f"{shown(known)}; put that teacher back, or start a new run with another --out"
        )
    return teacher


def teacher_chain(teacher: Artefact, recipe: Recipe, device: torch.device) -> Diffusion:
    """All steps of a teacher, guided as its student's recipe says."""
    model = of_artefact(teacher, device, Path(TEACHER))
    assert isinstance(model.chain, Diffusion)
    assert recipe.distil is not None
    return model.sampling_chain(model.chain.depth, recipe.distil.guidance).requires_grad_(False)
