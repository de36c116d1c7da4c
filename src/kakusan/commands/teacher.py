"""The teacher of a student's run: read once, and kept in the run, so that its own place may vanish."""

from __future__ import annotations

from pathlib import Path

import torch

from kakusan import artefact
from kakusan.artefact import Artefact
from kakusan.commands.export import of_run
from kakusan.diffusion import Diffusion
from kakusan.errors import InputError
from kakusan.model import load
from kakusan.recipes.config import Recipe, from_record
from kakusan.rundir import TEACHER, RunDirectory


def read_teacher(path: Path | None) -> tuple[Artefact, Recipe]:
    """What is kept of it, and its recipe with the place of its data; InputError if there is none."""
    if path is None:
        raise InputError("a student needs a teacher, a run or an exported file: add --teacher runs/demo")
    if path.is_file():
        shared = artefact.read(path)
        return shared, shared.facts.recipe
    return of_run(path), from_record(RunDirectory.open(path).read("run.json").get("recipe"))


def kept_teacher(run: RunDirectory) -> Artefact:
    """The teacher in a student's run; InputError if it is damaged or missing."""
    return artefact.read(run.path / TEACHER)


def teacher_chain(run: RunDirectory, recipe: Recipe, device: torch.device) -> Diffusion:
    """All steps of the teacher that a run keeps, guided as its student's recipe says."""
    teacher = load(run.path / TEACHER, str(device))
    assert isinstance(teacher.chain, Diffusion)
    assert recipe.distil is not None
    guidance = recipe.distil.guidance if teacher.weaker is not None else None
    return teacher.sampling_chain(teacher.chain.depth, guidance).requires_grad_(False)
