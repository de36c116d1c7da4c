"""Distillation: a student that makes in one call what its teacher, a chain of many steps, makes in many.

The student turns pure noise into data at once. Its law p_S is to become the teacher's p_T, and what falls is
sum_t w_t KL(q(z_t; p_S) || q(z_t; p_T)): both laws noised alike, at many levels, where they always overlap. Its
gradient needs the scores of the two alone, which is what denoisers know. The teacher is one; the other, the follower, is
trained beside the student on what the student makes. No picture is compared with another, so nothing is blurred.

Beside the teacher's law the student may be drawn to the data's own, p. A discriminator learns to tell noised data from
noised samples; where it does so best its log-odds are h = log q(z_t; p) - log q(z_t; p_S), and -E[h] over what the student
makes is KL(q(z_t; p_S) || q(z_t; p)).

Sources: Luo et al. 2023, "Diff-Instruct", for the distance; Yin et al. 2024, "One-step diffusion with distribution
matching distillation", and "Improved distribution matching distillation" for several calls, a quicker follower and a
discriminator of noised data; Goodfellow et al. 2014, proposition 1, for what a discriminator tells.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import softplus

from kakusan.distributions import sum_event
from kakusan.errors import InputError
from kakusan.models.diffusion import Diffusion
from kakusan.noise import Randomness, randn
from kakusan.schedule import Schedule
from kakusan.solvers.spacing import times
from kakusan.timesteps import StepLaw

DISCRIMINATOR_RATE = (
    3.0  # its learning rates in those of the follower, which has less to learn: it starts as the teacher
)


class Losses(NamedTuple):
    """Of each example, for each of its dimensions, shape (b,); no parameter moves both."""

    student: Tensor  # its gradient is that of the distance; its value is not
    follower: Tensor  # the denoiser's squared error, weighted as for the prediction v
    discriminator: Tensor  # in nats: of telling data from samples, both alike often; 2 log 2 of one that cannot


class Reality(NamedTuple):
    """Data that a discriminator is to tell from what the student makes."""

    x: Tensor  # (b, *event)
    weight: float  # of the distance from the data's law, beside that from the teacher's
    law: StepLaw | None = None  # of the steps at which they are told apart; all alike unless given


class Distillation(nn.Module):
    """What is trained: a student, the follower that learns what it makes, and perhaps a discriminator.

    Args:
        student: A chain that begins in noise its network sees shapes in, see `beginning`; its z_T is pure noise.
        follower: A denoiser on the teacher's schedule. Both start as copies of the teacher.
        student_rate: The student's learning rates as a share of the follower's, which must be the quicker one.
        discriminator: (z_t, t) -> log-odds (b,) that z_t is noised data.
    """

    def __init__(
        self, student: Diffusion, follower: Diffusion, student_rate: float = 1.0, discriminator: nn.Module | None = None
    ):
        super().__init__()
        assert isinstance(student.denoiser, nn.Module)
        assert isinstance(follower.denoiser, nn.Module)
        self.student, self.follower = student.denoiser, follower.denoiser
        self.clusters = student.clusters
        self.discriminator = discriminator
        self.rate_factors = {"student.": student_rate, "discriminator.": DISCRIMINATOR_RATE}
        # limits of the data estimate would stop the gradient; in a tuple, so that weights are named once
        self._chains = student, _unlimited(student), _unlimited(follower)

    @property
    def in_turn(self) -> bool:
        """Whether no two losses may be computed at once: a discriminator's weights are exchanged for a while."""
        return self.discriminator is not None

    def chain(self) -> Diffusion:
        """The student's: sample it with `renoise`, in one step or a few."""
        return self._chains[0]

    def losses(
        self,
        teacher: Diffusion,
        z: Tensor,
        k: Tensor,
        randomness: Randomness = None,
        law: StepLaw | None = None,
        real: Reality | None = None,
        cluster: Tensor | None = None,
    ) -> Losses:
        """What student, follower and discriminator are to lower, from one call of each of their networks and the teacher.

        With a follower that knows the student's law, the student's gradient is in expectation that of
        sum_t w_t KL(q(z_t; p_S) || q(z_t; p_T)) / D, w_t = P(t) (1 - alpha_bar_t) / alpha_bar_t, with clusters the mean
        of that of each cluster's laws; with the best
        discriminator there is added that of the same sum for the data's law, times its weight.

        The law of the student is that of what is sampled, which keeps to the limits of its chain's data estimate. The
        gradient does not end there: a background is pushed beyond black until the limit cuts its noise off.

        Args:
            teacher: The chain whose law is wanted, of the same clusters if there are some; it gets no gradient.
            z: What the student is given, (b, *event).
            k: At which of its steps, int64 (b,).
            randomness: Source of the steps t and of the noise at which the laws are compared.
            law: Of those steps of the teacher's chain; all alike unless given.
            real: If given, the discriminator is trained, and its word counts.
            cluster: Of each row, int64 (b,), if there are clusters.
        """
        limited, student, follower = self._chains
        if cluster is not None:
            teacher, student, follower = (chain.given(cluster) for chain in (teacher, student, follower))
        made = student.data_estimate(z, k)
        x = limited.within_limits(made.detach())
        t = (law or StepLaw.uniform(teacher.depth)).draw(len(x), randomness, x.device)
        z_t = teacher.marginal(x, t).sample(randomness)
        followed = follower.data_estimate(z_t, t)
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):  # guidance would amplify its rounding
            gap = teacher.within_limits(followed) - teacher.data_estimate(z_t, t)
        noise_var = teacher.schedule.noise_var.to(x.device)[t].to(x.dtype)
        losses = Losses(
            0.5 * sum_event((made - (made.detach() - gap)).square()) / student.num_dims,
            sum_event((followed - x).square()) / noise_var / student.num_dims,
            torch.zeros(len(x), dtype=x.dtype, device=x.device),
        )
        return losses if real is None else self._judged(losses, teacher, x + (made - made.detach()), real, randomness)

    def _judged(self, losses: Losses, chain: Diffusion, made: Tensor, real: Reality, randomness: Randomness) -> Losses:
        """With the discriminator's loss, and in the student's -w_t h(z_t) / D, whose mean falls with the distance from the data.

        Were h the best log-odds and held fast, its mean's gradient would be that of the distance: what moves the best
        h with the student's law has mean 0.
        """
        assert self.discriminator is not None, "data to be told apart, and nobody to do it"
        t = (real.law or StepLaw.uniform(chain.depth)).draw(len(made), randomness, made.device)
        z_data = chain.marginal(real.x, t).sample(randomness)
        z_made = chain.marginal(made, t).sample(randomness)
        held = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        drawn = functional_call(self.discriminator, held, (z_made, t))
        of_data, of_made = self.discriminator(z_data, t), self.discriminator(z_made.detach(), t)
        weight = (real.weight / chain.schedule.log_snr.exp().to(made.device)[t]).to(made.dtype)
        return losses._replace(
            student=losses.student - weight * drawn / chain.num_dims,
            discriminator=softplus(-of_data) + softplus(of_made),
        )


def student_inputs(
    student: Diffusion, x: Tensor, calls: int, first_share: float | None, randomness: Randomness = None
) -> tuple[Tensor, Tensor]:
    """What a student is trained on: z_k (b, *event), and k (b,).

    A share of the rows, all if there is one call, are at its first step, T, which is pure noise; the others are data,
    noised as `renoise` noises guesses on its way through `calls` equal steps.
    """
    *later, first = times(student.schedule, calls)
    probs = torch.zeros(student.depth, dtype=torch.float64)
    share = first_share if later and first_share is not None else 1.0
    probs[first - 1] = share
    probs[torch.tensor(later, dtype=torch.int64) - 1] = (1 - share) / max(len(later), 1)
    k = StepLaw(probs).draw(len(x), randomness, x.device)
    eps = randn(x.shape, randomness, x.dtype, x.device)
    at = student.marginal(x, k)
    pure = (k == student.depth).view(-1, *(1,) * (x.dim() - 1))
    return torch.where(pure, eps, at.mean + at.std * eps), k


def beginning(schedule: Schedule, log_snr: float) -> int:
    """The last step that is at least as clear: where a student begins, and takes pure noise for noised data.

    At T a denoiser has learnt to answer noise with the mean picture, whatever the noise. Told of a clearer step it
    sees shapes in the noise, a different one in each: a student that begins so has little left to learn.

    Raises:
        InputError: If the whole chain is noisier.
    """
    step = int((schedule.log_snr[1:] >= log_snr).sum())
    if step < 1:
        raise InputError(
            f"a student begins at a step with log SNR {log_snr} or more, and this chain has at most "
            f"{schedule.log_snr[1].item():.1f}; choose a lower one"
        )
    return step


def _unlimited(model: Diffusion) -> Diffusion:
    """The same network and chain, its data estimate as it comes."""
    return model.of_network(model.denoiser, clip=None)
