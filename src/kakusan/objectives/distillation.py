"""Distribution matching distillation: a student that samples in one network evaluation.

The student maps noise to data in one step. Its distribution p_S is trained toward the teacher's p_T by minimizing

    sum_t w_t KL(q(z_t; p_S) || q(z_t; p_T)),

with both distributions noised equally, so that they always overlap. The gradient needs only the two scores, which
denoisers estimate. One denoiser is the teacher. The other is the fake-score network, which is trained on the student's
samples at the same time. No image is compared with another, so the loss does not favor blurred samples.

Sources: Luo et al. 2023, "Diff-Instruct", for the distance; Yin et al. 2024, "One-step diffusion with distribution
matching distillation", and "Improved distribution matching distillation" for the faster fake-score network.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from kakusan.distributions import sum_event
from kakusan.errors import InputError
from kakusan.models.diffusion import Diffusion
from kakusan.models.mixture import Mixture, split
from kakusan.noise import Randomness
from kakusan.schedule import Schedule
from kakusan.timesteps import StepLaw


class Losses(NamedTuple):
    """Per-example losses per dimension, shape (b,); each has gradients for its own network alone."""

    student: Tensor  # has the gradient of the distance, but not its value
    fake_score: Tensor  # squared error of the denoiser, weighted as for the prediction v


class Distillation(nn.Module):
    """A student and its fake-score network, both initialized from the teacher.

    Args:
        student: Chain that starts at a noise level at which its network's output depends on the noise; see `first_step`.
        fake_score: Denoiser on the teacher's schedule.
        student_rate: Learning rate of the student divided by that of the fake-score network.
    """

    def __init__(self, student: Diffusion | Mixture, fake_score: Diffusion | Mixture, student_rate: float = 1.0):
        super().__init__()
        (chain, classes), (fake_chain, _) = split(student), split(fake_score)
        self.student = chain.denoiser
        self.add_module("follower", fake_chain.denoiser)  # its name in checkpoints since version 0.2
        self.clusters = classes
        self.rate_factors = {"student.": student_rate}
        # No clipping, which would stop the gradient. The tuple keeps weights from being registered twice.
        self._chains = (
            chain,
            chain.with_network(chain.denoiser, clip=None),
            fake_chain.with_network(fake_chain.denoiser, clip=None),
        )

    @property
    def fake_score(self) -> nn.Module:
        """Denoiser that is trained on the student's samples."""
        return self.get_submodule("follower")

    def chain(self) -> Diffusion | Mixture:
        """Chain of the student; sample it with `Renoise`."""
        return self._chains[0] if self.clusters is None else Mixture(self._chains[0], self.clusters)

    def losses(
        self,
        teacher: Diffusion,
        z: Tensor,
        k: Tensor,
        randomness: Randomness = None,
        law: StepLaw | None = None,
        cond: Tensor | None = None,
    ) -> Losses:
        """Compute the losses of both networks from one evaluation of each and one of the teacher.

        If the fake-score network is exact, the student's expected gradient is that of
        sum_t w_t KL(q(z_t; p_S) || q(z_t; p_T)) / D with w_t = P(t) (1 - alpha_bar_t) / alpha_bar_t. With clusters it is
        the mean over the clusters.

        p_S is the distribution of the samples, which are clipped to the range of the data. The gradient ignores the
        clipping, so a background moves beyond black until clipping removes its noise.

        Args:
            teacher: Chain whose distribution is the target, with the same condition as the student; it gets no gradient.
            z: Input of the student, (b, *event).
            k: Step at which the student's network is evaluated, int64 (b,).
            randomness: Random generator for the steps t and the noise.
            law: Distribution of the steps t of the teacher's chain; default: uniform.
            cond: Condition of each example, e.g. its cluster, int64 (b,).
        """
        clipped, student, fake_score = self._chains
        made = student.data_estimate(z, k, cond)
        x = clipped.clamp(made.detach())
        t = (law or StepLaw.uniform(teacher.depth)).draw(len(x), randomness, x.device)
        z_t = teacher.marginal(x, t).sample(randomness)
        fake = fake_score.data_estimate(z_t, t, cond)
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):  # guidance would amplify rounding errors
            gap = teacher.clamp(fake) - teacher.data_estimate(z_t, t, cond)
        noise_var = teacher.schedule.at("noise_var", t, x).flatten()  # its table is moved to the device once
        return Losses(
            0.5 * sum_event((made - (made.detach() - gap)).square()) / student.num_dims,
            sum_event((fake - x).square()) / noise_var / student.num_dims,
        )


def first_step(schedule: Schedule, log_snr: float) -> int:
    """Return the last step with at least this log-SNR, at which a student starts from pure noise.

    At T a denoiser returns the mean image for any noise. At a step with less noise its output depends on the noise. So a
    student that is initialized from it and starts there already generates varied samples.

    Raises:
        InputError: If every step has a lower log-SNR.
    """
    step = int((schedule.log_snr[1:] >= log_snr).sum())
    if step < 1:
        raise InputError(
            f"distil.begin_log_snr must be at most {schedule.log_snr[1].item():.1f}, the highest log SNR of the teacher's "
            f"schedule, got {log_snr:g}; choose a lower one"
        )
    return step
