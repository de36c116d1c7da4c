"""Cost of a solver step without the network: every library's DDIM around a network that costs nothing.

    python benchmarks/stepping.py --batches 1 64 --rounds 15

With a network of one multiplication, only a solver's own arithmetic, bookkeeping and progress bars remain. For comparison
there is the time of an evaluation of our untrained network for digits.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from results import Result, Spread, interleaved, processor_seconds
from torch import Tensor, nn

from kakusan.models.diffusion import Diffusion
from kakusan.models.mixture import split
from kakusan.recipes import find
from kakusan.run.build import build
from kakusan.schedule import Schedule
from kakusan.solvers import sample as draw_samples
from kakusan.solvers import solve, solver_named

STEPS, SHAPE = 50, (1, 28, 28)
DEPTH = 1000


class Nothing(nn.Module):
    """Network of one multiplication, with every attribute that the libraries read."""

    channels = out_dim = 1
    self_condition = False

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.1))

    def forward(self, x: Tensor, *_: object) -> Tensor:
        return self.weight * x


def ours(name: str, batch: int, seeds: bool = False) -> Callable[[], object]:
    """Ours, with one noise stream for all images or, as in `kakusan sample`, a seed per image."""
    chain = Diffusion(Nothing(), Schedule.cosine(DEPTH), SHAPE, prediction="v", variance="beta_tilde")
    times = [DEPTH * k // STEPS for k in range(1, STEPS + 1)]
    if seeds:
        return lambda: draw_samples(chain, batch, solver=name, times=times)
    return lambda: solve(chain, torch.randn(batch, *SHAPE), solver_named(name), times)


def our_network(batch: int) -> Callable[[], object]:
    """STEPS evaluations of our network."""
    chain, classes = split(build(find("mnist-ddpm").model, SHAPE).eval())
    z, t = torch.randn(batch, *SHAPE), torch.full((batch,), 500)
    cond = [] if classes is None else [torch.zeros(batch, dtype=torch.int64)]

    @torch.no_grad()
    def calls() -> None:
        for _ in range(STEPS):
            chain.denoiser(z, t, *cond)

    return calls


def azula(name: str, batch: int) -> Callable[[], object]:
    from azula import sample
    from azula.denoise import SimpleDenoiser
    from azula.noise import CosineSchedule

    denoiser = SimpleDenoiser(Nothing(), CosineSchedule())
    one = getattr(sample, name)(denoiser, steps=STEPS, silent=True)
    return lambda: one(one.init((batch, *SHAPE)))


def diffusers(name: str, batch: int) -> Callable[[], object]:
    import diffusers as library

    network = Nothing()
    options = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}
    scheduler = getattr(library, name)(num_train_timesteps=DEPTH, **options)

    @torch.no_grad()
    def draw() -> None:
        scheduler.set_timesteps(STEPS)
        x = torch.randn(batch, *SHAPE)
        for t in scheduler.timesteps:
            x = scheduler.step(network(x, t), t, x).prev_sample

    return draw


def lucidrains(batch: int) -> Callable[[], object]:
    from rivals.lucidrains import GaussianDiffusion

    model = GaussianDiffusion(Nothing(), image_size=28, timesteps=DEPTH, sampling_timesteps=STEPS)
    return lambda: model.sample(batch)


def blocks(batch: int) -> dict[tuple[str, str], Callable[[], object]]:
    return {
        ("kakusan", "ddim"): ours("ddim", batch),
        ("kakusan", "dpm++2m"): ours("dpm++2m", batch),
        ("kakusan", "dpm++2m-sde"): ours("dpm++2m-sde", batch),
        ("kakusan", "dpm++2m-sde, one seed per image"): ours("dpm++2m-sde", batch, seeds=True),
        ("kakusan", "the network of mnist-ddpm instead"): our_network(batch),
        ("azula", "DDIMSampler"): azula("DDIMSampler", batch),
        ("azula", "DDPMSampler"): azula("DDPMSampler", batch),
        ("azula", "zABSampler"): azula("zABSampler", batch),
        ("diffusers", "DDIMScheduler"): diffusers("DDIMScheduler", batch),
        ("diffusers", "DPMSolverMultistepScheduler"): diffusers("DPMSolverMultistepScheduler", batch),
        ("lucidrains", "ddim_sample"): lucidrains(batch),
    }


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--batches", type=int, nargs="*", default=[1, 64])
    words.add_argument("--rounds", type=int, default=15)
    return words


def main() -> None:
    given = parser().parse_args()
    torch.set_num_threads(1)
    rows = []
    for batch in given.batches:
        draws = blocks(batch)
        for draw in draws.values():
            draw()  # what is made once is made now
        for (library, name), seconds in interleaved(draws, given.rounds, processor_seconds).items():
            step = Spread.of(seconds).each(lambda one: 1e6 * one / STEPS)
            row = {"library": library, "sampler": name, "batch": batch, "microseconds a step": round(step.median)}
            rows.append(row | {"quartiles": f"{step.low:.0f} to {step.high:.0f}", "n": step.n})
    Result(
        "stepping",
        "What does a sampler's step cost besides the network?",
        rows,
        [
            f"{STEPS} steps on 28 x 28 images around a network of one multiplication, in processor time of one thread, "
            "interleaved. azula's progress bar is disabled; denoising-diffusion-pytorch has no such option."
        ],
    ).write()


if __name__ == "__main__":
    main()
