"""A student and its teacher: what build.py is for a model that learns from data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import cast

from torch import Tensor

from kakusan.data.augment import augmented
from kakusan.diffusion import Diffusion
from kakusan.distil import Distillation, beginning, student_inputs
from kakusan.errors import InputError
from kakusan.noise import Randomness
from kakusan.recipes.build import scale_of, schedule_of, with_weights
from kakusan.recipes.config import DiffusionConfig, Distil, Recipe
from kakusan.samplers.spacing import times
from kakusan.steps import StepLaw
from kakusan.train.loop import Loss

NETWORK = "denoiser."  # before the names of a diffusion model's weights
STUDENT = "student."  # before those of a student's in what is trained


def student_recipe(recipe: Recipe, teacher: Recipe) -> Recipe:
    """A recipe for students with the settings of this teacher; InputError if it cannot teach."""
    if not isinstance(teacher.model, DiffusionConfig) or teacher.distil is not None:
        kind = "a student itself" if teacher.distil is not None else f"a {teacher.family} model"
        raise InputError(f"a teacher is a diffusion model, and {teacher.name} is {kind}; e.g. kakusan train mnist-ddpm")
    distil = _distil(recipe)
    if recipe.optim.early is not None:
        raise InputError(
            f"--optim.early keeps weights that guide sampling, and a student has its teacher's guidance in it, got "
            f"{recipe.optim.early:g}; leave it out"
        )
    if recipe.optim.augment != "none" and (distil.calls == 1 or distil.first_share == 1):
        raise InputError(
            f"--optim.augment moves pictures, and with --distil.calls {distil.calls} --distil.first-share "
            f"{distil.first_share:g} a student sees pure noise alone, got {recipe.optim.augment}; choose none"
        )
    schedule = schedule_of(teacher.model)
    student = dataclasses.replace(teacher.model, begin=beginning(schedule, distil.begin_log_snr), guidance=1.0)
    times(schedule_of(student), distil.calls)  # InputError where there are not so many steps
    StepLaw.log_snr_normal(schedule, *distil.compare)
    return dataclasses.replace(recipe, model=student)


def distillation(recipe: Recipe, event_shape: tuple[int, ...], weights: Mapping[str, Tensor]) -> Distillation:
    """Student and follower, both with the teacher's weights."""
    assert isinstance(recipe.model, DiffusionConfig)
    follower = dataclasses.replace(recipe.model, begin=None)
    chains = [cast(Diffusion, with_weights(config, event_shape, weights)) for config in (recipe.model, follower)]
    return Distillation(*chains, student_rate=_distil(recipe).student_rate)


def distillation_loss(module: Distillation, recipe: Recipe, data: Tensor, teacher: Diffusion) -> Loss:
    """What the trainer minimises, as a function of example indices; see `build.training_loss`.

    Args:
        module: What is trained.
        recipe: Its settings.
        data: The training part, on the device.
        teacher: The whole chain whose law is wanted, on the device.
    """
    distil, scale, student = _distil(recipe), scale_of(recipe.model), module.chain()
    law = StepLaw.log_snr_normal(teacher.schedule, *distil.compare)

    def loss(indices: Tensor, randomness: Randomness) -> Tensor:
        x = scale.to_model(augmented(data[indices], recipe.optim.augment, randomness), randomness)
        z, k = student_inputs(student, x, distil.calls, distil.first_share, randomness)
        losses = module.losses(teacher, z, k, randomness, law)
        return losses.student + losses.follower

    return loss


def used_weights(recipe: Recipe, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of the weights that a run averages those that its model is used with, by the model's names: not a follower's."""
    if recipe.distil is None:
        return dict(weights)
    return {
        NETWORK + name.removeprefix(STUDENT): tensor for name, tensor in weights.items() if name.startswith(STUDENT)
    }


def _distil(recipe: Recipe) -> Distil:
    assert recipe.distil is not None, "a recipe for a student"
    return recipe.distil
