"""Quality of a distilled student with few network evaluations, compared with its teacher in 5, 10 and 20 steps.

    python benchmarks/few.py STUDENT                  with the teacher that the student's run keeps
    python benchmarks/few.py STUDENT -n 10000

Samples are stored in --folder, 250 per file, so that an interrupted benchmark resumes. Writes few.json to --out
(docs/benchmarks), and from it few.md and few.png to the folder above; --pages-only writes only those. For digits only: the
features are the shipped digit classifier's, with which neither student nor teacher was trained.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kept import samples
from matplotlib.figure import Figure
from quality import measures

from kakusan.data.open import open_data
from kakusan.run.directory import TEACHER, RunDirectory
from kakusan.run.trained_model import load

STUDENT_STEPS, TEACHER_STEPS = (1, 2, 4), (5, 10, 20)  # for the student those that it was trained for
SEED = 1
DOCS = Path(__file__).parent.parent / "docs"


def measured(pictures: np.ndarray) -> dict[str, Any]:
    """Measures of the images, each as {value, standard_error, ...}."""
    return {name: value.record() for name, value in measures(pictures).items()}


def measure_all(run: Path, n: int, folder: Path) -> dict[str, Any]:
    """Record of the benchmark: settings, machine, date, and a row per way to sample."""
    data = open_data("mnist")
    student, teacher = load(run), load(run / TEACHER)
    directory = RunDirectory.open(run)
    summary, recipe = directory.read("summary.json"), directory.read("run.json")["recipe"]
    trained_for = [steps for steps in STUDENT_STEPS if recipe["distil"]["calls"] % steps == 0]
    rows = []
    for who, model, many in (("student", student, trained_for), ("teacher", teacher, TEACHER_STEPS)):
        for steps in many:
            pictures, calls = samples(model, folder, n, SEED, steps=steps)
            rows.append({"who": who, "steps": steps, "calls": calls, **measured(pictures)})
            print(json.dumps(rows[-1]), flush=True)
    floor = data.train[torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))[:n]]
    rows.append({"who": "training digits", "steps": 0, "calls": 0, **measured(floor.permute(0, 2, 3, 1).numpy())})
    return {
        "n": n,
        "seed": SEED,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}, torch {torch.__version__}",
        "recipe": recipe["name"],
        "teacher_recipe": teacher.recipe.name,
        "distil": recipe["distil"],
        "batch": recipe["optim"]["batch"],
        "steps": summary["steps"],
        "seconds": summary["seconds"],
        "weights_sha256": summary["weights_sha256"],
        "rows": rows,
    }


def page(record: dict[str, Any]) -> str:
    """Page in Markdown."""
    rows = record["rows"]
    teacher = next(row for row in rows if (row["who"], row["steps"]) == ("teacher", max(TEACHER_STEPS)))
    student = next(row for row in rows if (row["who"], row["steps"]) == ("student", 1))
    ratio = student["frechet_distance_unbiased"]["value"] / teacher["frechet_distance_unbiased"]["value"]
    lines = [
        "| who | steps | NFE | Fréchet distance | without bias | recognized | precision | recall |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        value = {name: entry["value"] for name, entry in row.items() if isinstance(entry, dict)}
        error = row["frechet_distance"]["standard_error"]
        lines.append(
            f"| {row['who']} | {row['steps'] or ''} | {row['calls'] or ''} | {value['frechet_distance']:.2f} ± {error:.2f} "
            f"| {value['frechet_distance_unbiased']:.2f} | {value['recognized']:.1%} | {value['precision']:.3f} | {value['recall']:.3f} |"
        )
    return (
        "# Few network evaluations: quality of a distilled student\n\n"
        f"Written by `benchmarks/few.py` on {record['date']}; {record['machine']}; n = {record['n']:,} samples each, seed "
        f"{record['seed']}, one student. It was trained by `{record['recipe']}` in {record['steps']:,} steps of "
        f"{record['batch']} ({record['seconds'] / 60:.1f} minutes of wall-clock time on a busy machine) from "
        f"a teacher of `{record['teacher_recipe']}`. Distillation used guidance {record['distil']['guidance']:g}, and was made "
        f"{'with' if record['distil'].get('data_weight') else 'without'} a discriminator of noised data. The student "
        "samples with `renoise` on equal steps, and the teacher with the command's defaults (dpm++2m-sde, guidance of its own "
        "recipe). Samples are compared with all test digits by the 64 features of the shipped digit classifier, which is "
        "independent of both; one standard error (jackknife). The last row scores real training digits in the same way.\n\n"
        + "\n".join(lines)
        + f"\n\nWith one network evaluation, the student's distance without bias is {ratio:.2f} times that of the teacher with "
        f"{teacher['steps']} steps ({teacher['calls']:g} network evaluations). The table has the errors.\n\n![Distance and recall against NFE](few.png)\n"
    )


def figure(record: dict[str, Any], path: Path) -> None:
    """Plot of distance, recognized share, precision and recall against NFE."""
    drawing = Figure(figsize=(11, 3.6), layout="constrained")
    axes = drawing.subplots(1, 3)
    floor = record["rows"][-1]
    for who, marker in (("student", "o"), ("teacher", "s")):
        rows = [row for row in record["rows"] if row["who"] == who]
        calls = [row["calls"] for row in rows]
        distance = [row["frechet_distance_unbiased"]["value"] for row in rows]
        errors = [row["frechet_distance"]["standard_error"] for row in rows]
        axes[0].errorbar(calls, distance, errors, marker=marker, label=who, capsize=3)
        axes[1].plot(calls, [row["recognized"]["value"] for row in rows], marker=marker, label=who)
        for name, style in (("precision", "-"), ("recall", "--")):
            axes[2].plot(calls, [row[name]["value"] for row in rows], style, marker=marker, label=f"{who}, {name}")
    axes[1].axhline(floor["recognized"]["value"], color="grey", linestyle=":", label="training digits")
    for one, word in zip(axes, ("Fréchet distance without its bias", "recognized share", "precision and recall")):
        one.set(xscale="log", xlabel="NFE", ylabel=word)
        one.legend(fontsize=8)
    axes[0].set_ylim(bottom=0)
    drawing.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="a finished run of a student")
    parser.add_argument("-n", type=int, default=2000, help="samples per row, a multiple of 250")
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark-few"))
    parser.add_argument("--out", type=Path, default=DOCS / "benchmarks", help="folder of few.json")
    parser.add_argument("--pages-only", action="store_true")
    given = parser.parse_args()
    if not given.pages_only:
        if given.run is None:
            parser.error("name a student's run, or --pages-only")
        given.out.mkdir(parents=True, exist_ok=True)
        record = measure_all(given.run, given.n, given.folder)
        (given.out / "few.json").write_text(json.dumps(record, indent=1) + "\n")
    record = json.loads((given.out / "few.json").read_text())
    (given.out.parent / "few.md").write_text(page(record))
    figure(record, given.out.parent / "few.png")


if __name__ == "__main__":
    main()
