"""A student and its teacher: what build.py is for a model that learns from data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import cast

from torch import Tensor

from kakusan.data.augment import augmented
from kakusan.errors import InputError
from kakusan.models.diffusion import Diffusion
from kakusan.nets.discriminator import Discriminator
from kakusan.noise import Randomness
from kakusan.objectives.distillation import Distillation, Reality, beginning, student_inputs
from kakusan.run.build import scale_of, schedule_of, with_weights
from kakusan.run.recipe import DiffusionConfig, Distil, Recipe
from kakusan.solvers.spacing import times
from kakusan.timesteps import StepLaw
from kakusan.train.loop import Loss

NETWORK = "denoiser."  # before the names of a diffusion model's weights
CLUSTERS = "clusters."  # before what it knows of its clusters
STUDENT = "student."  # before those of a student's in what is trained
FIRST_SHARE = 0.8  # unless given
DATA_COMPARE = (0.0, 2.0)  # unless given


def student_recipe(recipe: Recipe, teacher: Recipe) -> Recipe:
    """A recipe for students with the settings of this teacher; InputError if it cannot teach."""
    if not isinstance(teacher.model, DiffusionConfig) or teacher.distil is not None:
        kind = "a student itself" if teacher.distil is not None else f"a {teacher.family} model"
        raise InputError(f"a teacher is a diffusion model, and {teacher.name} is {kind}; e.g. kakusan train mnist-ddpm")
    distil = _settled(_distil(recipe))
    if recipe.optim.early is not None:
        raise InputError(
            f"--optim.early keeps weights that guide sampling, and a student has its teacher's guidance in it, got "
            f"{recipe.optim.early:g}; leave it out"
        )
    if recipe.optim.augment != "none" and (distil.calls == 1 or distil.first_share == 1) and not distil.data_weight:
        raise InputError(
            f"--optim.augment moves pictures, and with --distil.calls {distil.calls} --distil.first-share "
            f"{distil.first_share or 1:g} a student sees pure noise alone, got {recipe.optim.augment}; choose none"
        )
    schedule = schedule_of(teacher.model)
    student = dataclasses.replace(
        teacher.model,
        begin=beginning(schedule, distil.begin_log_snr),
        guidance=1.0,
        end_log_snr=None,
    )
    times(schedule_of(student), distil.calls)  # InputError where there are not so many steps
    for compared in (distil.compare, distil.data_compare):
        if compared is not None:
            StepLaw.log_snr_normal(schedule, *compared)
    return dataclasses.replace(recipe, model=student, distil=distil)


def _settled(distil: Distil) -> Distil:
    """Every setting that has an effect given; InputError for one that would have none."""
    if distil.calls == 1 and distil.first_share is not None:
        raise InputError(
            f"--distil.first-share divides training among several calls, and there is one, got {distil.first_share:g}; "
            "leave it out, or add --distil.calls 4"
        )
    if not distil.data_weight and distil.data_compare is not None:
        raise InputError(
            "--distil.data-compare is of the discriminator, and with --distil.data-weight 0 there is none; leave it out"
        )
    if distil.calls > 1 and distil.first_share is None:
        distil = dataclasses.replace(distil, first_share=FIRST_SHARE)
    if distil.data_weight and distil.data_compare is None:
        distil = dataclasses.replace(distil, data_compare=DATA_COMPARE)
    return distil


def distillation(recipe: Recipe, event_shape: tuple[int, ...], weights: Mapping[str, Tensor]) -> Distillation:
    """Student and follower with the teacher's weights, and a discriminator with weights of torch's global generator."""
    assert isinstance(recipe.model, DiffusionConfig)
    follower = dataclasses.replace(recipe.model, begin=None)
    chains = [cast(Diffusion, with_weights(config, event_shape, weights)) for config in (recipe.model, follower)]
    distil, (channels, *size) = _distil(recipe), event_shape
    discriminator = Discriminator(channels, (size[0], size[1])) if distil.data_weight else None
    return Distillation(*chains, student_rate=distil.student_rate, discriminator=discriminator)


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
    data_law = None if distil.data_compare is None else StepLaw.log_snr_normal(teacher.schedule, *distil.data_compare)

    def loss(indices: Tensor, randomness: Randomness) -> Tensor:
        x = scale.to_model(augmented(data[indices], recipe.optim.augment, randomness), randomness)
        z, k = student_inputs(student, x, distil.calls, distil.first_share, randomness)
        real = Reality(x, distil.data_weight, data_law) if distil.data_weight else None
        cluster = None if student.clusters is None else student.clusters.of(x)
        losses = module.losses(teacher, z, k, randomness, law, real, cluster)
        return losses.student + losses.follower + losses.discriminator

    return loss


def used_weights(recipe: Recipe, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of the weights that a run averages those that its model is used with, by the model's names: not a follower's."""
    if recipe.distil is None:
        return dict(weights)
    own = {NETWORK + name.removeprefix(STUDENT): tensor for name, tensor in weights.items() if name.startswith(STUDENT)}
    return own | {name: tensor for name, tensor in weights.items() if name.startswith(CLUSTERS)}


def _distil(recipe: Recipe) -> Distil:
    assert recipe.distil is not None, "a recipe for a student"
    return recipe.distil
