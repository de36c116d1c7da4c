"""The teacher of a student, copied into the student's run, so that the teacher's run may be deleted."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import torch

from kakusan.console import tell
from kakusan.errors import InputError, shown
from kakusan.models.diffusion import Diffusion
from kakusan.models.mixture import Mixture
from kakusan.run import model_file
from kakusan.run.directory import TEACHER, RunDirectory
from kakusan.run.model_file import ExportedModel
from kakusan.run.recipe import Recipe
from kakusan.run.source import open_source
from kakusan.run.student import student_recipe
from kakusan.run.trained_model import of_file
from kakusan.storage import files

DIGEST = "teacher_sha256"  # key of the teacher's digest in run.json


def read_teacher(path: Path | None) -> tuple[ExportedModel, Recipe]:
    """Read a teacher; return the model to keep, and its recipe with the path of its data."""
    if path is None:
        raise InputError("a student needs a teacher, a run or an exported file: add --teacher runs/demo")
    source = open_source(path)
    return source.read_shareable(), source.facts.recipe


def student_of(recipe: Recipe, teacher: ExportedModel) -> Recipe:
    """Complete a student's recipe with the settings of its teacher; InputError if the model cannot be a teacher."""
    student = student_recipe(recipe, teacher.facts.recipe)
    if teacher.early is not None or student.distil is None or student.distil.guidance == 1:
        return student
    tell(
        f"the teacher has no early weights for autoguidance: --distil.guidance is 1 instead of {student.distil.guidance:g}"
    )
    return dataclasses.replace(student, distil=dataclasses.replace(student.distil, guidance=1.0))


def keep_teacher(run: RunDirectory, teacher: ExportedModel) -> dict[str, str]:
    """Write the teacher into a student's run, and return its entry in run.json."""
    content = teacher.to_bytes()
    run.write_bytes(TEACHER, content)
    return {DIGEST: hashlib.sha256(content).hexdigest()}


def kept_teacher(run: RunDirectory) -> ExportedModel:
    """Read the teacher in a student's run; InputError if it is damaged, missing or a different model."""
    path, known = run.path / TEACHER, run.read("run.json").get(DIGEST)
    teacher = model_file.read(path)
    found = hashlib.sha256(b"".join(files.chunks(path))).hexdigest()
    if found != known:
        raise InputError(
            f"{path} is not the teacher that the run was started with: SHA-256 {found}, expected "
            f"{shown(known)}; put that teacher back, or start a new run with another --out"
        )
    return teacher


def teacher_chain(teacher: ExportedModel, recipe: Recipe, device: torch.device) -> Diffusion | Mixture:
    """Return the teacher's chain with all steps, guided according to the student's recipe."""
    assert recipe.distil is not None, "a recipe for a student"
    model = of_file(teacher, device, Path(TEACHER))
    return model.sampling.chain(recipe.distil.guidance).requires_grad_(False)
