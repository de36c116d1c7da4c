"""Recipe, module and loss of a student; the counterpart of build.py for distillation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor

from kakusan.console import command
from kakusan.errors import InputError
from kakusan.models.diffusion import Diffusion
from kakusan.models.mixture import Mixture, split
from kakusan.noise import Randomness, randn
from kakusan.objectives.distillation import Distillation, first_step
from kakusan.run.build import scale_of, with_weights
from kakusan.run.families.diffusion import DiffusionConfig, schedule_of
from kakusan.run.recipe import Distil, Recipe
from kakusan.timesteps import StepLaw
from kakusan.training.loop import Loss

NETWORK = "denoiser."  # prefix of the weights of a diffusion model's network
CLUSTERS = "clusters."  # prefix of its cluster centroids
STUDENT = "student."  # prefix of the student's weights in a Distillation


def student_recipe(recipe: Recipe, teacher: Recipe) -> Recipe:
    """Complete a student's recipe with the settings of its teacher; InputError if `teacher` cannot be one."""
    if not teacher.model.guided or teacher.distil is not None:
        kind = "a student itself" if teacher.distil is not None else f"a {teacher.family} model"
        raise InputError(
            f"a teacher must be a diffusion model, and {teacher.name} is {kind}; e.g. {command('train', 'mnist-ddpm')}"
        )
    settings = cast(DiffusionConfig, teacher.model)
    distil = _distil(recipe)
    if recipe.optim.early is not None:
        raise InputError(
            f"--optim.early keeps weights for autoguidance, and a student has learned its teacher's guidance, got "
            f"{recipe.optim.early:g}; omit it"
        )
    if recipe.optim.augment != "none":
        raise InputError(
            f"--optim.augment changes images, and a student is trained on noise alone, got {recipe.optim.augment}; "
            "choose none"
        )
    schedule = schedule_of(settings)
    student = dataclasses.replace(
        settings,
        begin=first_step(schedule, distil.begin_log_snr),
        guidance=1.0,
        end_log_snr=None,
    )
    StepLaw.log_snr_normal(schedule, *distil.compare)  # raises InputError if no step lies near this log-SNR
    return dataclasses.replace(recipe, model=student)


def distillation(recipe: Recipe, event_shape: tuple[int, ...], weights: Mapping[str, Tensor]) -> Distillation:
    """Build student and fake-score network, both with the teacher's weights."""
    whole = dataclasses.replace(cast(DiffusionConfig, recipe.model), begin=None)
    student, fake_score = (cast(Any, with_weights(one, event_shape, weights)) for one in (recipe.model, whole))
    return Distillation(student, fake_score, student_rate=_distil(recipe).student_rate)


def distillation_loss(module: Distillation, recipe: Recipe, data: Tensor, teacher: Diffusion | Mixture) -> Loss:
    """Return the training loss as a function of example indices; see `build.training_loss`.

    Args:
        module: Student and fake-score network.
        recipe: Its settings.
        data: Training images, on the device; they only select the clusters.
        teacher: Chain whose distribution is the target, on the device.
    """
    scale, (student, classes), target = scale_of(recipe.model), split(module.chain()), split(teacher)[0]
    law = StepLaw.log_snr_normal(target.schedule, *_distil(recipe).compare)
    last = StepLaw.uniform(1)  # draws k = T, and as many random numbers as version 0.3, whose runs can be resumed

    def loss(indices: Tensor, randomness: Randomness) -> Tensor:
        x = scale.to_model(data[indices], randomness)
        k = last.draw(len(x), randomness, x.device) + (student.depth - 1)
        z = randn(x.shape, randomness, x.dtype, x.device)
        cond = None if classes is None else classes.of(x)
        if classes is not None and cond is None:  # with labels, the images do not matter
            cond = classes.draw(len(x), randomness).to(x.device)
        losses = module.losses(target, z, k, randomness, law, cond)
        return losses.student + losses.fake_score

    return loss


def used_weights(recipe: Recipe, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a run's final model, by the model's names. For a distillation: only those of the student."""
    if recipe.distil is None:
        return dict(weights)
    own = {NETWORK + name.removeprefix(STUDENT): tensor for name, tensor in weights.items() if name.startswith(STUDENT)}
    return own | {name: tensor for name, tensor in weights.items() if name.startswith(CLUSTERS)}


def _distil(recipe: Recipe) -> Distil:
    assert recipe.distil is not None, "a recipe for a student"
    return recipe.distil
