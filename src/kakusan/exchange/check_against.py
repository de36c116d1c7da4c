"""Comparison with another library, step by step, with the same network, schedule and noise in both."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kakusan.console import command
from kakusan.errors import InputError
from kakusan.exchange.diffusers_export import leading_times, pipeline_of
from kakusan.exchange.diffusers_import import PREDICTIONS
from kakusan.models.diffusion import Diffusion
from kakusan.models.mixture import split
from kakusan.models.parametrization import PREDICTIONS as PARAMETRIZATIONS
from kakusan.noise import example_streams, stream
from kakusan.run.families.diffusers import UNetSettings, library, unet_of
from kakusan.schedule import Schedule, Step
from kakusan.solvers.ancestral import Ancestral
from kakusan.solvers.base import Solver
from kakusan.solvers.ddim import DDIM
from kakusan.solvers.dpm_solver import DPMSolver
from kakusan.solvers.loop import SolverStep, solve

TOLERANCE = 1e-3  # for values in [-1, 1], at every step; diffusers' tables are float32
NUM, STEPS, DEPTH = 4, 20, 1000
# name: our solver, diffusers' scheduler, options of the scheduler, options of its steps
PAIRS: dict[str, tuple[Solver, str, dict[str, Any], dict[str, Any]]] = {
    "ddpm, beta_tilde": (Ancestral(), "DDPMScheduler", {"variance_type": "fixed_small"}, {}),
    "ddpm, beta": (Ancestral(), "DDPMScheduler", {"variance_type": "fixed_large"}, {}),
    "ddim, eta 0": (DDIM(), "DDIMScheduler", {}, {"eta": 0.0, "use_clipped_model_output": True}),
    "ddim, eta 1": (DDIM(1.0), "DDIMScheduler", {}, {"eta": 1.0, "use_clipped_model_output": True}),
    "dpm-solver++ 2M": (DPMSolver(2), "DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}, {}),
    "dpm-solver++ 2M sde": (DPMSolver(2, sde=True), "DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, {}),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """Largest differences for one solver and prediction.

    Attributes:
        solver: Name in `PAIRS`.
        prediction: Prediction of the network, as diffusers names it.
        largest: Largest difference of any value at any step. Images lie in [-1, 1].
        step: Step at which it occurs; 1 is the first step from noise.
        last: Largest difference of the final images.
    """

    solver: str
    prediction: str
    largest: float
    step: int
    last: float


@dataclass(frozen=True)
class Agreement:
    """Rows of the comparison, and the version of the other library."""

    against: str
    version: str
    rows: list[Row]

    @property
    def agrees(self) -> bool:
        """True if no difference exceeds 1e-3."""
        return all(row.largest <= TOLERANCE for row in self.rows)

    def record(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "tolerance": TOLERANCE, "agrees": self.agrees}

    def lines(self) -> list[str]:
        """Return the table as lines of text."""
        head = f"{'solver':<22}{'prediction':<14}{'largest':>10}{'at step':>9}{'images':>10}"
        table = [
            f"{row.solver:<22}{row.prediction:<14}{row.largest:>10.1e}{row.step:>9}{row.last:>10.1e}"
            for row in self.rows
        ]
        verdict = "agree" if self.agrees else "DIFFER"
        return [
            head,
            *table,
            f"{NUM} images, {STEPS} steps, values in [-1, 1]: kakusan and {self.against} {self.version} {verdict} "
            f"(tolerance {TOLERANCE:.1e})",
        ]


def check_against(against: str = "diffusers", run: Path | str | None = None) -> Agreement:
    """Sample in both libraries from the same latents, with the same network, schedule and noise, and compare.

    Args:
        against: "diffusers".
        run: Run or exported file whose network is used (default: for each prediction a small network with random weights).

    Raises:
        InputError: If diffusers is missing, or does not support such a model.
    """
    if against != "diffusers":
        raise InputError(
            f"kakusan compares itself with diffusers, got {against!r}; type: {command('check-against', 'diffusers')}"
        )
    rows = []
    for theirs, ours in PREDICTIONS.items():
        made = _toy(ours) if run is None else _of_run(run, ours)
        if made is not None:
            rows += [_row(name, theirs, *made) for name in PAIRS]
    if not rows:
        raise InputError(f"{run} predicts a quantity that no scheduler of diffusers supports; omit --run")
    return Agreement(against, library().__version__, rows)


class _Toy(nn.Module):
    """Network whose estimate of x is the tanh of its input and a random UNet2DModel, so that images lie in [-1, 1]."""

    def __init__(self, prediction: str, schedule: Schedule):
        super().__init__()
        settings = UNetSettings(
            sample_size=8,
            in_channels=1,
            out_channels=1,
            block_out_channels=(8, 16),
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            norm_num_groups=4,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.unet = unet_of(settings)
        self.form, self.schedule = PARAMETRIZATIONS[prediction](), schedule

    def forward(self, z: Tensor, step: Tensor) -> Tensor:
        """Return the prediction at diffusers' steps 0..T-1."""
        level = Step(self.schedule, step.expand(len(z)) + 1, z)
        x = torch.tanh(2 * level.signal * z + self.unet(z, step).sample)
        return self.form.target(x, z, (z - level.signal * x) / level.noise, level)


def _toy(prediction: str) -> tuple[Diffusion, nn.Module, dict[str, Any]]:
    noise = {"beta_schedule": "linear", "num_train_timesteps": DEPTH}
    schedule = Schedule.from_betas(library().DDPMScheduler(**noise).betas)
    net = _Toy(prediction, schedule).eval()
    return Diffusion.wrap(net, schedule, (1, 8, 8), prediction=prediction, first=0, clip=None), net, noise


def _of_run(run: Path | str, prediction: str) -> tuple[Diffusion, nn.Module, dict[str, Any]] | None:
    """Return the chain of a run, and its network in the form that diffusers calls; None for another prediction."""
    from kakusan.run.trained_model import load

    model = load(run, "cpu")
    if not model.family.estimators or not model.family.form.has_pixels:
        raise InputError(f"diffusers samples diffusion models of images, and {run} is not one; omit --run")
    chain, classes = split(model.chain)
    if chain.prediction != prediction:
        return None
    unet = pipeline_of(model).unet
    if classes is not None:
        unet.classes = classes.draw(NUM, stream("agreement classes"))
    noise = {"trained_betas": chain.schedule.beta[1:].tolist(), "num_train_timesteps": chain.depth}
    net = _Called(unet)
    plain = Diffusion.wrap(net, chain.schedule, chain.event_shape, prediction=prediction, first=0, clip=None)
    return plain, net, noise


class _Called(nn.Module):
    """Component of diffusers as a module that returns a tensor."""

    def __init__(self, unet: nn.Module):
        super().__init__()
        self.unet = unet

    def forward(self, z: Tensor, step: Tensor) -> Tensor:
        """Return the prediction."""
        return self.unet(z, step).sample[:, : z.shape[1]]


@torch.no_grad()
def _row(name: str, prediction: str, chain: Diffusion, net: nn.Module, noise: dict[str, Any]) -> Row:
    """Compare one solver in both libraries."""
    solver, scheduler_name, options, of_step = PAIRS[name]
    variance = "beta" if name.endswith("beta") else "beta_tilde"
    chain = chain.with_network(chain.denoiser, variance=variance)
    kind = getattr(library(), scheduler_name)
    clip = {} if scheduler_name.startswith("DPM") else {"clip_sample": False}
    scheduler = kind(**noise, **options, **clip, prediction_type=prediction)
    times = leading_times(chain.depth, STEPS)
    if scheduler_name.startswith("DPM"):
        scheduler.set_timesteps(timesteps=[t - 1 for t in reversed(times)])
    else:
        scheduler.set_timesteps(len(times))
    streams = example_streams(0, range(NUM))
    z = start = chain.prior().expand(NUM).sample(streams)
    after: list[Tensor] = []
    for step in scheduler.timesteps:
        z = scheduler.step(net(z, step), step, z, generator=streams, **of_step).prev_sample
        after.append(z)
    again = example_streams(0, range(NUM))
    chain.prior().expand(NUM).sample(again)
    mine: list[Tensor] = []

    def keep(done: SolverStep) -> None:
        mine.append(done.z_s)

    solve(chain, start, solver, times, randomness=again, callback=keep)
    return row_of(name, prediction, mine, after)


def row_of(name: str, prediction: str, ours: list[Tensor], theirs: list[Tensor]) -> Row:
    """Compare the latents after each step of one solver in both libraries."""
    differences = [(mine - other).abs().max().item() for mine, other in zip(ours, theirs, strict=True)]
    largest = max(differences)
    return Row(name, prediction, largest, 1 + differences.index(largest), differences[-1])
