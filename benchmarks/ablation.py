"""Effect of each change from book-ddpm to mnist-ddpm, one at a time, with the same number of images or the same time.

    python benchmarks/ablation.py                               12,000 images a row, one seed: 20 to 40 minutes
    python benchmarks/ablation.py --minutes 3 --seeds 3         the same time for each row, three seeds
    python benchmarks/ablation.py --images 99 -n 50 --limit 20  a smoke test, to another --folder and --out
    python benchmarks/ablation.py --report                      ablation.md from the finished rows only

All rows have nearly the same network, so equal numbers of images take nearly equal processor time, even on a busy machine. Each
row keeps all changes above it. Rows are runs of `kakusan.train` in --folder. The result of each is a JSON file there, so that
an interrupted ablation resumes. Writes benchmarks/ablation.json and ablation.md to --out (docs).
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from page import table
from quality import NOTE, quality
from results import DOCS, Result, made

import kakusan
from kakusan.data.open import open_data
from kakusan.recipes import find
from kakusan.run.recipe import Recipe
from kakusan.run.trained_run import with_settings

FIRST, LAST = "book-ddpm", "mnist-ddpm"
SAMPLE_SEED = 1
MEAN = ("steps", "images", "bits/dim", "Fréchet distance", "without bias", "recognized")  # over the seeds


@dataclass(frozen=True)
class Change:
    """One row: settings that change, and keep their new values in all rows below.

    Attributes:
        name: Name of the row.
        settings: Settings of the recipe, named as `kakusan.train` takes them.
        sampling: Whether only sampling changes, so that the weights are those of the row above.
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    sampling: bool = False


CHANGES = (
    Change(FIRST),
    Change("cosine schedule", {"schedule": "cosine"}),
    Change("v-prediction", {"prediction": "v"}),
    Change("variance beta_tilde", {"variance": "beta_tilde"}),
    Change("timesteps near a focus", {"focus_share": 0.8}),
    Change("batch 48", {"batch": 48}),
    Change("falling learning rate", {"warmup": 30, "decay": "linear", "clip": 1.0, "betas": (0.9, 0.98)}),
    Change("averaged weights", {"ema": 0.1}),
    Change("Muon", {"method": "muon", "lr": 3e-3, "matrix_lr": 0.03, "weight_decay": 0.01}),
    Change("128 clusters", {"clusters": 128, "early": 0.1}),
    Change("autoguidance", {"guidance": 2.0}, sampling=True),
    Change("sampling ends early", {"end_log_snr": 3.0}, sampling=True),
)


def settings_up_to(number: int) -> dict[str, Any]:
    """Settings that differ from the first row's in this one."""
    return {name: value for change in CHANGES[: number + 1] for name, value in change.settings.items()}


def recipe_of(number: int) -> Recipe:
    """Recipe of a row; the last has the settings of mnist-ddpm."""
    return with_settings(find(FIRST), settings_up_to(number))


def trained_row(number: int) -> int:
    """The row whose weights this row uses."""
    return max(k for k in range(number + 1) if not CHANGES[k].sampling)


def measure_row(number: int, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """Train a row, or resume or reuse its run, and measure its bound and its samples."""
    source = trained_row(number)
    path = given.folder / f"seed-{seed}" / f"{source:02d}-{CHANGES[source].name.replace(' ', '-')}"
    if (path / "run.json").exists():
        run = kakusan.Run(path)
        run = run if run.finished else run.resume()
    else:
        steps = -(-given.images // recipe_of(source).optim.batch)
        budget = {"steps": steps} if given.minutes is None else {"minutes": given.minutes}
        run = kakusan.train(FIRST, out=path, seed=seed, **budget, **settings_up_to(source))
    model, config = run.model, recipe_of(number).model
    bound = model.evaluate(open_data("mnist").test[: given.limit])
    guided = {} if model.weaker is None else {"guidance": config.guidance}  # type: ignore[attr-defined]
    drawn = model.sample(given.n, SAMPLE_SEED, end_log_snr=config.end_log_snr, **guided)  # type: ignore[attr-defined]
    summary = run.summary
    return {
        "change": CHANGES[number].name,
        "settings": ", ".join(f"{name} {value}" for name, value in CHANGES[number].settings.items()),
        "steps": summary["steps"],
        "images": summary["examples"],
        "bits/dim": round(bound.bits_per_dim, 4),
        "error of bits/dim": round(bound.standard_error or 0.0, 4),
        **quality(np.asarray(drawn)),
    }


def kept_row(number: int, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """The row from its file, or measured now and written there.

    Raises:
        SystemExit: If the file belongs to other settings.
    """
    asked = {
        "settings": json.loads(json.dumps(settings_up_to(number))),
        "budget": {"images": given.images, "minutes": given.minutes, "n": given.n, "limit": given.limit, "seed": seed},
    }
    file = given.folder / f"seed-{seed}" / f"{number:02d}.json"
    if file.exists():
        found = json.loads(file.read_text())
        if {name: found[name] for name in asked} != asked:
            raise SystemExit(f"{file} was made with other settings or another budget; choose another --folder")
        return found["row"]
    row = measure_row(number, seed, given)
    file.parent.mkdir(parents=True, exist_ok=True)
    half = file.with_suffix(".part")
    half.write_text(json.dumps(asked | {"row": row, "made": made()}, indent=1) + "\n")
    half.replace(file)
    print(f"{number + 1} of {len(CHANGES)}, seed {seed}: {json.dumps(row, ensure_ascii=False)}", flush=True)
    return row


def over_seeds(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """One row: means over the seeds, and the standard deviations between them if there are several."""
    one = rows[0] | {name: round(statistics.mean(row[name] for row in rows), 4) for name in MEAN}
    if len(rows) > 1:
        for name in ("bits/dim", "without bias"):
            one[f"{name}, between seeds"] = round(statistics.stdev(row[name] for row in rows), 4)
        one["seeds"] = len(rows)
    return one


def collected(given: argparse.Namespace) -> Result | None:
    """The finished rows of all seeds; None without any."""
    rows, budgets = [], []
    for number in range(len(CHANGES)):
        files = sorted(given.folder.glob(f"seed-*/{number:02d}.json"))
        found = [json.loads(file.read_text()) for file in files]
        budgets += [one["budget"] for one in found]
        if found:
            rows.append(over_seeds([one["row"] for one in found]))
    if not rows:
        return None
    budget = budgets[0]
    spent = f"{budget['images']:,} images" if budget["minutes"] is None else f"{budget['minutes']:g} minutes"
    notes = [
        f"The training budget of a row is {spent}. Rows that change sampling alone use the weights of the row above "
        f"them. The bound is that of the first {budget['limit']:,} test digits. All rows sample with the default "
        "solver in 20 steps, not by ancestral sampling in 1,000. The default solver does not use `variance`, so that setting changes the bound alone.",
        NOTE,
        "Differences below twice the standard errors are not significant. The standard errors do not include the "
        "variation between seeds.",
    ]
    facts = {"budget of each row": spent, "seeds": len({one["seed"] for one in budgets}), "finished rows": len(rows)}
    question = f"What does each addition from {FIRST} to {LAST} buy?"
    return Result("ablation", question, rows, notes, facts=facts)


def page(result: dict[str, Any]) -> str:
    """Page in Markdown."""
    made_at, rows = result["made"], result["rows"]
    missing = len(CHANGES) - len(rows)
    left = f"\n{missing} of {len(CHANGES)} rows are not measured yet; the command continues.\n" if missing else ""
    return (
        f"# From {FIRST} to {LAST}, one change at a time\n\n"
        f"`{FIRST}` is the DDPM without additions, `{LAST}` the recipe of the demo. Each row keeps the changes above it. "
        "`guidance` and `end_log_snr` change sampling alone.\n\n"
        f"Written by `benchmarks/ablation.py` on {made_at['date']}; {made_at['cores']} cores of {made_at['processor']}, "
        f"torch {made_at['versions']['torch']}, load {made_at['load_at_the_end']:.1f} at the end. Lower is better for bits/dim and "
        "distances, higher for recognized.\n\n"
        + table(rows)
        + "\n"
        + left
        + "\n"
        + "\n\n".join(result["notes"])
        + f"\n\n```text\n{made_at['command']}\n```\n"
    )


def parser() -> argparse.ArgumentParser:
    """Flags."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument(
        "--images", type=int, default=12_000, help="images that each row is trained on, with repetitions"
    )
    flags.add_argument("--minutes", type=float, help="training time of each row, instead of images")
    flags.add_argument("--seeds", type=int, default=1)
    flags.add_argument("-n", type=int, default=1000, help="samples of each row")
    flags.add_argument("--limit", type=int, default=1000, help="test digits whose bound is measured")
    flags.add_argument("--rows", type=int, default=len(CHANGES), help="number of rows from the first")
    flags.add_argument("--folder", type=Path, default=Path("runs/ablation"))
    flags.add_argument("--out", type=Path, default=DOCS, help="folder of ablation.md")
    flags.add_argument("--report", action="store_true")
    return flags


def main() -> None:
    given = parser().parse_args()
    if not given.report:
        torch.set_num_threads(1)
        for seed, number in itertools.product(range(given.seeds), range(given.rows)):
            kept_row(number, seed, given)
    result = collected(given)
    if result is None:
        raise SystemExit(f"{given.folder} has no finished rows; python benchmarks/ablation.py measures them")
    file = result.write(given.out / "benchmarks")
    (given.out / "ablation.md").write_text(page(json.loads(file.read_text())))
    print(given.out / "ablation.md")


if __name__ == "__main__":
    main()
