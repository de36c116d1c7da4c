"""Quality of digits by network and training settings, after 30, 60 and 180 seconds of two cores.

    python benchmarks/bakeoff.py                                   every candidate, every budget, 3 seeds: about 4 hours
    python benchmarks/bakeoff.py --seconds 120 --seeds 1 --only unet cosine
    python benchmarks/bakeoff.py --variations-of unet --seconds 120   its settings, one changed at a time
    python benchmarks/bakeoff.py --report                          docs/bakeoff.md and its figures only

Each run is a process of its own with one thread and a budget of processor seconds, two per second of two cores. Imports,
data and set-up keep one core busy and count twice; compiling counts. The learning rate decays over the rest. Then 1,000
samples are drawn by the default sampler, with the recipe's guidance and without. Each finished run appends a line to
docs/benchmarks/bakeoff.jsonl, so that an interrupted bake-off resumes.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ours import trainer_on
from quality import NOTE, quality
from results import CORES, DOCS, FOLDER, made, processor
from torch import nn

from kakusan.data.open import open_data
from kakusan.guidance import guided
from kakusan.models.diffusion import Diffusion
from kakusan.models.mixture import split
from kakusan.models.vae import VAE
from kakusan.nets import NETWORKS
from kakusan.nets.unet import UNet
from kakusan.noise import Randomness, randn, stream
from kakusan.run.build import count_parameters, scale_of
from kakusan.run.families.diffusion import DiffusionConfig, timestep_distribution
from kakusan.run.families.vae import VAEConfig
from kakusan.run.recipe import Recipe
from kakusan.run.trained_model import TrainedModel
from kakusan.schedule import Schedule
from kakusan.solvers.evaluations import counted
from kakusan.solvers.loop import DEFAULT_SOLVER, DEFAULT_SPACING, DEFAULT_STEPS, sample
from kakusan.training.loop import Trainer
from kakusan.training.settings import Budget, Optim

LINES = FOLDER / "bakeoff.jsonl"
BUDGETS = (60, 120, 360)  # processor seconds
VAE_SHARE = 1 / 3  # of the budget of a latent diffusion
SEED = 1  # of the samples
CPU = torch.device("cpu")
Draw = Callable[[int, float], np.ndarray]  # (number of samples, weight of the guidance) -> uint8 (n, 28, 28, 1)


@dataclass(frozen=True)
class Candidate:
    """One way to spend a budget.

    Attributes:
        recipe: What is trained.
        vae: If given, it is trained first, and the recipe's model is one of its latents.
        channels_last: Whether convolutions keep the memory format that the U-Net gives them.
    """

    recipe: Recipe
    vae: Recipe | None = None
    channels_last: bool = True

    def settings(self) -> dict[str, Any]:
        """Settings that differ from the library's defaults, so that a setting that is added later changes nothing."""
        found: dict[str, Any] = {} if self.channels_last else {"channels_last": False}
        for stage, recipe in (("", self.recipe), ("vae.", self.vae)):
            for part in ("model", "optim") if recipe else ():
                record = getattr(recipe, part)
                plain = dataclasses.asdict(type(record)())
                found |= {f"{stage}{part}.{k}": v for k, v in dataclasses.asdict(record).items() if v != plain[k]}
        return json.loads(json.dumps(found))


def changed(recipe: Recipe, model: dict[str, Any] | None = None, optim: dict[str, Any] | None = None) -> Recipe:
    """Recipe with some other settings."""
    return dataclasses.replace(
        recipe,
        model=dataclasses.replace(recipe.model, **(model or {})),
        optim=dataclasses.replace(recipe.optim, **(optim or {})),
    )


MUON = Optim(method="muon", lr=3e-3, matrix_lr=0.03, warmup=30, batch=48, ema=0.1, early=0.1)
ADAM = Optim(method="adam", lr=2e-3, warmup=30, batch=256, ema=0.1, early=0.1)
# What mnist-ddpm was before the bake-off; written out, so that a change of the recipe leaves the bake-off as it is.
DDPM = Recipe("ddpm", "a diffusion of pixels", DiffusionConfig(width=32, inner_width=64, blocks=3), optim=MUON)
CANDIDATES = {
    "unet": Candidate(DDPM),
    "convnext": Candidate(changed(DDPM, {"network": "convnext", "width": 96, "blocks": 6})),
    "transformer": Candidate(changed(DDPM, {"network": "transformer", "width": 128, "blocks": 4, "patch": 7})),
    "cosine": Candidate(dataclasses.replace(changed(DDPM, {"network": "cosine", "width": 512}), optim=ADAM)),
    "latent": Candidate(
        Recipe(
            "latent",
            "a diffusion of a VAE's latents",
            DiffusionConfig(network="cosine", width=512, likelihood="gaussian"),
            optim=ADAM,
        ),
        vae=Recipe(
            "vae",
            "the VAE",
            VAEConfig(hidden=(400, 400), latent=32, likelihood="bernoulli", activation="silu", residual=True),
            optim=Optim(lr=4e-3, batch=256, ema=0.1, betas=(0.9, 0.999), weight_decay=0.0),
        ),
    ),
}


def variations(name: str) -> dict[str, Candidate]:
    """Candidate with one setting changed."""
    base = CANDIDATES[name]
    model: list[tuple[str, dict[str, Any]]] = [
        *((f"predicts {one}", {"prediction": one}) for one in ("eps", "x")),
        *(
            (f"focus {mean:g} ± {spread:g}", {"focus": (mean, spread)})
            for mean, spread in ((-0.8, 1.8), (-1.8, 1), (0.2, 1))
        ),
        ("uniform timesteps", {"focus_share": 0.0}),
        ("focus alone", {"focus_share": 1.0}),
        ("linear schedule", {"schedule": "linear"}),
    ]
    if base.vae is None:
        model += [(f"{number} clusters", {"clusters": number}) for number in (32, 64, 128, 256)]
        model.append(("samples ended early", {"end_log_snr": 3.0}))
    optim: list[tuple[str, dict[str, Any]]] = [
        ("AdamW", {"method": "adam"}),
        *((f"averages over {share:g}", {"ema": share}) for share in (0.05, 0.2)),
        *((f"batch {batch}", {"batch": batch}) for batch in (32, 96)),
        *(
            (
                f"learning rates x {by:g}",
                {"lr": by * base.recipe.optim.lr, "matrix_lr": by * base.recipe.optim.matrix_lr},
            )
            for by in (0.5, 2)
        ),
        ("bfloat16", {"precision": "bfloat16"}),
        ("compiled", {"compile": "default"}),
    ]
    found = {words: dataclasses.replace(base, recipe=changed(base.recipe, model=one)) for words, one in model}
    found |= {words: dataclasses.replace(base, recipe=changed(base.recipe, optim=one)) for words, one in optim}
    found["channels first"] = dataclasses.replace(base, channels_last=False)
    return {f"{name}, {words}": one for words, one in found.items() if one != base}


def candidate(name: str) -> Candidate:
    """Candidate or variation of this name."""
    return CANDIDATES[name] if name in CANDIDATES else variations(name.split(",")[0])[name]


# One run


def one_run(name: str, seconds: float, seed: int, n: int) -> dict[str, Any]:
    """Train within this many processor seconds, the start of the process included; sample, measure, report."""
    torch.set_num_threads(1)
    mine = candidate(name)
    data = open_data("mnist").train
    train = pixel_diffusion if mine.vae is None else latent_diffusion
    draw, trainers, spent = train(mine, data, seconds, seed)
    with counted(split(trainers[-1].ema.module)[0].denoiser) as calls:
        draw(1, 1.0)
    weight = mine.recipe.model.guidance
    return {
        "name": name,
        "seconds": seconds,
        "seed": seed,
        "settings": mine.settings(),
        "parameters": sum(count_parameters(one.module) for one in trainers),
        "steps": [one.state.step for one in trainers],
        "images": [one.state.images(one.settings.batch) for one in trainers],
        "skipped": sum(one.state.num_skipped for one in trainers),
        "loss": trainers[-1].state.loss,
        "spent": round(spent, 1),
        "calls": calls.total,
        "plain": quality(draw(n, 1.0)),
        "guided": quality(draw(n, weight)) | {"weight": weight},
        "made": made(),
    }


def run_for(trainer: Trainer, seconds: float, spent: float) -> float:
    """Train until this many processor seconds are used, `spent` of them before; return the seconds used."""
    if spent >= seconds:
        raise ValueError(f"{seconds:g} processor seconds are gone before training begins, after {spent:.1f}")
    trainer.budget = Budget(minutes=(seconds - spent) / 60)
    began = time.process_time()
    trainer.run([], on_mark=lambda _: None, on_step=lambda _: None)
    return spent + time.process_time() - began


def pixel_diffusion(
    mine: Candidate, data: torch.Tensor, seconds: float, seed: int
) -> tuple[Draw, list[Trainer], float]:
    prepare = None if mine.channels_last else channels_first
    trainer = trainer_on(data, mine.recipe, Budget(minutes=1), seed, prepare)
    spent = run_for(trainer, seconds, CORES * time.process_time())
    model = TrainedModel(mine.recipe, trainer.ema.module, tuple(data.shape[1:]), CPU, trainer.early)
    return lambda n, weight: np.asarray(model.sample(n, SEED, guidance=weight)), [trainer], spent


def channels_first(model: nn.Module) -> None:
    """Undo the memory format that the U-Net chose."""
    denoiser = split(model)[0].denoiser
    assert isinstance(denoiser, UNet)
    for parameter in model.parameters():
        parameter.data = parameter.data.contiguous()
    denoiser.first.register_forward_pre_hook(lambda layer, inputs: (inputs[0].contiguous(),))


def latent_diffusion(
    mine: Candidate, data: torch.Tensor, seconds: float, seed: int
) -> tuple[Draw, list[Trainer], float]:
    """VAE and a diffusion model of its latents, each divided by its std; the encoder's noise is redrawn."""
    assert isinstance(mine.vae.model, VAEConfig)
    first = trainer_on(data, mine.vae, Budget(minutes=1), seed)
    spent = run_for(first, VAE_SHARE * seconds, CORES * time.process_time())
    began = time.process_time()
    vae = first.ema.module.eval()
    assert isinstance(vae, VAE)
    scale = scale_of(mine.vae.model)
    with torch.no_grad():
        parts = [
            vae.encode(scale.to_model(part, stream(seed, "bits", i)), 1) for i, part in enumerate(data.split(1000))
        ]
    mean, std = torch.cat([q.mean for q in parts]), torch.cat([q.std for q in parts])
    center, spread = mean.mean(0), (mean.var(0) + std.square().mean(0)).sqrt()
    shape = (mine.vae.model.latent, 1, 1)
    config = mine.recipe.model

    def untrained() -> Diffusion:
        return Diffusion(
            NETWORKS[config.network].from_config(config, shape),
            Schedule.cosine(config.depth),
            shape,
            prediction=config.prediction,
            variance=config.variance,
        )

    torch.manual_seed(seed)
    model = untrained()
    law = timestep_distribution(config)

    def loss(indices: torch.Tensor, randomness: Randomness) -> torch.Tensor:
        z = mean[indices] + std[indices] * randn((len(indices), shape[0]), randomness, mean.dtype, CPU)
        return model.loss(((z - center) / spread).view(-1, *shape), randomness, config.objective, law)

    second = Trainer(model, loss, len(data), mine.recipe.optim, Budget(minutes=1), seed, CPU)
    second.clock.now = time.process_time
    spent = run_for(second, seconds, spent + CORES * (time.process_time() - began))
    trained = second.ema.module.eval()
    weaker = untrained().eval()
    weaker.load_state_dict(second.early)

    @torch.no_grad()
    def draw(n: int, weight: float) -> np.ndarray:
        chain = guided(trained, weaker, weight, config.guidance_range)
        latents = sample(chain, n, seed=SEED).flatten(1) * spread + center
        return scale.to_pixels(vae.decode(latents, 1).mean)

    return draw, [first, second], spent


# All runs


def lines() -> list[dict[str, Any]]:
    """Lines of the finished runs."""
    return [json.loads(line) for line in LINES.read_text().splitlines()] if LINES.exists() else []


def is_done(name: str, seconds: float, seed: int) -> bool:
    """True if there is a line of this run from such a machine with the present settings."""
    wanted = (name, seconds, seed, candidate(name).settings(), processor())
    return any(
        (line["name"], line["seconds"], line["seed"], line["settings"], line["made"]["processor"]) == wanted
        for line in lines()
    )


def run_all(names: list[str], budgets: list[float], seeds: int, n: int) -> None:
    """Run what is missing, seed by seed, so that other load on the machine falls on all candidates equally."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    missing = [
        (name, seconds, seed)
        for seed, seconds, name in itertools.product(range(seeds), budgets, names)
        if not is_done(name, seconds, seed)
    ]
    for number, (name, seconds, seed) in enumerate(missing, 1):
        print(f"{number} of {len(missing)}: {name}, {seconds:g} processor seconds, seed {seed}", flush=True)
        command = [sys.executable, __file__, "--one", name, str(seconds), str(seed), "-n", str(n)]
        done = subprocess.run(
            command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            print(f"  failed with status {done.returncode}; the others continue")
            continue
        line = done.stdout.splitlines()[-1]
        with LINES.open("a") as file:
            file.write(line + "\n")
        one = json.loads(line)
        print("  " + ", ".join(f"{kind}: {one[kind]['without bias']:.2f} ± {one[kind]['standard error']:.2f}, "
              f"{one[kind]['recognized']:.1%}" for kind in ("guided", "plain")), flush=True)  # fmt: skip


# The report


def groups(found: list[dict[str, Any]]) -> dict[tuple[str, float], list[dict[str, Any]]]:
    """Lines by name and budget, without those of other settings than the present ones or of another processor."""
    together: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for line in found:
        try:
            today = candidate(line["name"]).settings()
        except KeyError:
            continue
        if line["settings"] == today and line["made"]["processor"] == found[-1]["made"]["processor"]:
            together.setdefault((line["name"], line["seconds"]), []).append(line)
    return together


def spread_of(runs: list[dict[str, Any]], kind: str, measure: str) -> tuple[float, float]:
    """Mean and standard deviation over the seeds; NaN for one seed."""
    values = [run[kind][measure] for run in runs]
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else math.nan


def words_of(runs: list[dict[str, Any]], kind: str) -> str:
    distance, between = spread_of(runs, kind, "without bias")
    error = statistics.mean(run[kind]["standard error"] for run in runs)
    known, varies = spread_of(runs, kind, "recognized")
    return (f"{distance:.2f} | {'' if math.isnan(between) else f'{between:.2f}'} | {error:.2f} "
            f"| {known:.1%}{'' if math.isnan(varies) else f' ± {varies:.1%}'}")  # fmt: skip


def table(together: dict[tuple[str, float], list[dict[str, Any]]], seconds: float) -> str:
    """Markdown, the best first."""
    rows = [(name, runs) for (name, budget), runs in together.items() if budget == seconds]
    rows.sort(key=lambda row: spread_of(row[1], "guided", "without bias")[0])
    out = [
        "| candidate | parameters | images seen | seeds | distance, guided | between seeds | standard error | recognized "
        "| distance, not guided | between seeds | standard error | recognized |",
        "|---" * 12 + "|",
    ]
    for name, runs in rows:
        images = " + ".join(f"{statistics.mean(part) / 1000:,.0f} k" for part in zip(*(run["images"] for run in runs)))
        out.append(
            f"| {name} | {runs[0]['parameters']:,} | {images} | {len(runs)} | {words_of(runs, 'guided')} | {words_of(runs, 'plain')} |"
        )
    return "\n".join(out)


def figure(together: dict[tuple[str, float], list[dict[str, Any]]], path: Path) -> None:
    """Distance and recognized share against the budget, with the range of the seeds."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(10, 4), layout="constrained")
    panels = drawing.subplots(1, 2)
    for axes, measure, label in zip(
        panels, ("without bias", "recognized"), ("Fréchet distance without its bias", "recognized share")
    ):
        for number, name in enumerate(CANDIDATES):
            budgets = sorted(seconds for other, seconds in together if other == name)
            if not budgets:
                continue
            for kind, style in (("guided", "-"), ("plain", ":")):
                values = [[run[kind][measure] for run in together[name, seconds]] for seconds in budgets]
                middles = [statistics.mean(one) for one in values]
                ends = [[m - min(v) for m, v in zip(middles, values)], [max(v) - m for m, v in zip(middles, values)]]
                axes.errorbar(
                    [seconds / CORES for seconds in budgets], middles, yerr=ends, linestyle=style, color=f"C{number}",
                    marker="o", markersize=4, capsize=2, label=name if kind == "guided" else None
                )  # fmt: skip
        axes.set(xscale="log", xlabel="seconds of two cores", ylabel=label)
        axes.set_xticks([b / CORES for b in BUDGETS], [f"{b / CORES:g}" for b in BUDGETS], minor=False)
        axes.minorticks_off()
    panels[0].set_yscale("log")
    panels[0].legend(fontsize=8)
    drawing.savefig(path, dpi=110)


def report(folder: Path) -> None:
    """Write bakeoff.md and bakeoff.png from the finished runs."""
    found = lines()
    together = groups(found)
    if not together:
        raise SystemExit(f"{LINES} has no runs yet; python benchmarks/bakeoff.py does them")
    used = [run for runs in together.values() for run in runs]
    dates = sorted({run["made"]["date"] for run in used})
    machines = sorted(
        {
            f"{run['made']['cores']} cores of {run['made']['processor']}, torch {run['made']['versions']['torch']}"
            for run in used
        }
    )
    text = [
        "# Which network is best in a few minutes on two cores\n",
        f"Written by `benchmarks/bakeoff.py` from {len(used)} runs in [bakeoff.jsonl](benchmarks/bakeoff.jsonl), "
        f"{' to '.join(sorted({dates[0], dates[-1]}))}; {'; '.join(machines)}. Each run has one thread. A second of two cores is two processor "
        "seconds, including imports, data and setup. The machine was shared. Processor seconds exclude "
        f"other processes, but a busy machine computes less in each second. Sampler {DEFAULT_SOLVER}, {DEFAULT_STEPS} steps, {DEFAULT_SPACING}, "
        f"seed {SEED}. {NOTE} Between seeds: a standard deviation.\n",
    ]  # fmt: skip
    main_runs = {key: runs for key, runs in together.items() if key[0] in CANDIDATES}
    for seconds in sorted({seconds for _, seconds in main_runs}):
        text += [f"## {seconds / CORES:g} seconds\n", table(main_runs, seconds) + "\n"]
    text.append("![Distance and recognized share against seconds of two cores; dotted: not guided](bakeoff.png)\n")
    others = {key: runs for key, runs in together.items() if key[0] not in CANDIDATES}
    for base, seconds in sorted({(name.split(",")[0], seconds) for name, seconds in others}):
        mine = {key: runs for key, runs in together.items() if key[1] == seconds and key[0].split(",")[0] == base}
        text += [f"## {base}, one setting changed, {seconds / CORES:g} seconds\n", table(mine, seconds) + "\n"]
    if len(found) > len(used):
        text.append(
            f"{len(found) - len(used)} more runs in the file are from another machine, or have settings that were tried and dropped.\n"
        )
    figure(main_runs, folder / "bakeoff.png")
    (folder / "bakeoff.md").write_text("\n".join(text))
    print(folder / "bakeoff.md")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--seconds", type=float, nargs="+", default=list(BUDGETS), help="processor seconds of one thread"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("-n", type=int, default=1000, help="samples of each run")
    parser.add_argument("--only", nargs="+", choices=CANDIDATES, default=list(CANDIDATES))
    parser.add_argument("--variations-of", choices=CANDIDATES, help="run these in place of the candidates")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of the report")
    parser.add_argument("--one", nargs=3, metavar=("NAME", "SECONDS", "SEED"), help="one run; its line on stdout")
    given = parser.parse_args()
    if given.one:
        name, seconds, seed = given.one
        print(json.dumps(one_run(name, float(seconds), int(seed), given.n)))
        return
    if not given.report:
        names = [given.variations_of, *variations(given.variations_of)] if given.variations_of else given.only
        run_all(names, given.seconds, given.seeds, given.n)
    report(given.out)


if __name__ == "__main__":
    main()
