"""Quality of distilled students with few network evaluations, compared with their teacher in 5, 10 and 20 steps.

    python benchmarks/few.py STUDENT                        with the teacher that the student's run keeps
    python benchmarks/few.py STUDENT STUDENT STUDENT -n 5000    students of one teacher, with different seeds

Samples are stored in --folder, 250 per file, so that an interrupted benchmark resumes. The processor time of 250 samples
is measured in rounds. Each round samples once from the first student in one step and once from the teacher in 20.

Set OMP_WAIT_POLICY=passive, as the command kakusan does. Otherwise waiting threads count as processor time. The results
are few.json in --out (docs/benchmarks), and few.md and few.png in the folder above; --pages-only writes only those two.
For digits only: the features are the shipped digit classifier's, with which neither student nor teacher was trained.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kept import CHUNK, samples
from matplotlib.figure import Figure
from quality import measures
from results import Spread, interleaved, processor, processor_seconds

from kakusan.data.open import open_data
from kakusan.run.directory import TEACHER, RunDirectory
from kakusan.run.trained_model import TrainedModel, load
from kakusan.storage.tensors import digest

TEACHER_STEPS = (5, 10, 20)  # a student takes one
SEED = 1
DOCS = Path(__file__).parent.parent / "docs"


def measured(pictures: np.ndarray) -> dict[str, Any]:
    """Measures of the images, each as {value, standard_error, ...}."""
    return {name: value.record() for name, value in measures(pictures).items()}


def cost(student: TrainedModel, teacher: TrainedModel, rounds: int) -> dict[str, Any]:
    """Processor seconds of 1,000 samples, and the ratio of the two in each round: median, quartiles and n."""
    blocks = {
        "student": lambda: student.sample(CHUNK, SEED, steps=1),
        "teacher": lambda: teacher.sample(CHUNK, SEED, steps=max(TEACHER_STEPS)),
    }
    interleaved(blocks, 1, processor_seconds)  # warm up
    seconds = interleaved(blocks, rounds, processor_seconds)
    seconds["ratio"] = [slow / fast for slow, fast in zip(seconds["teacher"], seconds["student"])]
    found = {who: Spread.of(values) for who, values in seconds.items()}
    return {
        who: asdict(one if who == "ratio" else one.each(lambda value: value * 1000 / CHUNK))
        for who, one in found.items()
    }


def facts(run: Path) -> dict[str, Any]:
    """Seed, recipe and result of a student's training."""
    directory = RunDirectory.open(run)
    summary, record = directory.read("summary.json"), directory.read("run.json")
    return {
        **{name: record[name] for name in ("seed", "recipe")},
        **{name: summary[name] for name in ("steps", "seconds", "weights_sha256")},
    }


def measure_all(runs: list[Path], n: int, folder: Path, rounds: int) -> dict[str, Any]:
    """Record of the benchmark: settings, machine, date, and a row per way to sample.

    Raises:
        SystemExit: If the runs are not students of one teacher and one recipe.
    """
    data = open_data("mnist")
    students, teachers = ([load(path) for path in paths] for paths in (runs, [run / TEACHER for run in runs]))
    trained = [facts(run) for run in runs]
    recipe, *others = [one.pop("recipe") for one in trained]
    if len({one["seed"] for one in trained}) < len(runs):
        raise SystemExit("two of the runs have the same seed; name each student once")
    if len({digest(one.chain.state_dict()) for one in teachers}) > 1 or any(other != recipe for other in others):
        raise SystemExit("the runs differ in their teachers or recipes; name students that differ in their seeds only")
    teacher = teachers[0]
    entries = [(f"student, seed {one['seed']}", model, (1,)) for one, model in zip(trained, students)]
    rows = []
    for who, model, many in [*entries, ("teacher", teacher, TEACHER_STEPS)]:
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
        "machine": f"{os.cpu_count()} cores of {processor()}, torch {torch.__version__}",
        "recipe": recipe["name"],
        "teacher_recipe": teacher.recipe.name,
        "distil": recipe["distil"],
        "batch": recipe["optim"]["batch"],
        "students": trained,
        "cost": cost(students[0], teacher, rounds),
        "waiting": os.environ.get("OMP_WAIT_POLICY", "unset"),
        "rows": rows,
    }


def ratio(student: dict[str, Any], teacher: dict[str, Any]) -> tuple[float, float]:
    """Ratio of the distances without bias, and its standard error to first order."""
    above, below = (row["frechet_distance_unbiased"] for row in (student, teacher))
    value = above["value"] / below["value"]
    relative = sum((one["standard_error"] / one["value"]) ** 2 for one in (above, below))
    return value, abs(value) * relative**0.5


def table(rows: list[dict[str, Any]], teacher: dict[str, Any]) -> str:
    """Table of the measures; students have the ratio of their distance to the teacher's."""
    lines = [
        "| who | steps | NFE | Fréchet distance without bias | standard error | ratio | standard error | recognized | precision | recall |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        value = {name: entry["value"] for name, entry in row.items() if isinstance(entry, dict)}
        student = row["who"].startswith("student")
        compared = "{:.2f} | {:.2f}".format(*ratio(row, teacher)) if student else " | "
        lines.append(
            f"| {row['who']} | {row['steps'] or ''} | {row['calls'] or ''} | {value['frechet_distance_unbiased']:.3f} "
            f"| {row['frechet_distance_unbiased']['standard_error']:.3f} | {compared} | {value['recognized']:.1%} "
            f"| {value['precision']:.3f} | {value['recall']:.3f} |"
        )
    return "\n".join(lines)


def page(record: dict[str, Any]) -> str:
    """Page in Markdown."""
    rows, many = record["rows"], record["students"]
    teacher = next(row for row in rows if (row["who"], row["steps"]) == ("teacher", max(TEACHER_STEPS)))
    minutes = statistics.mean(one["seconds"] for one in many) / 60
    steps = sorted(one["steps"] for one in many)
    spent = {who: "{median:.2f} | {low:.2f} to {high:.2f} | {n}".format(**one) for who, one in record["cost"].items()}
    return (
        "# Few network evaluations: quality of a distilled student\n\n"
        f"The recipe `{record['recipe']}` trained {len(many)} students from one teacher, a run of `{record['teacher_recipe']}`. "
        f"Each student trained for {minutes:.1f} minutes. "
        f"They took {steps[0]:,} to {steps[-1]:,} steps with batches of {record['batch']} images. "
        f"Distillation used guidance {record['distil']['guidance']:g}. "
        "The students sample with `renoise` on equal steps. "
        "The teacher samples with the command's defaults, dpm++2m-sde and the guidance of its own recipe.\n\n"
        f"Each row compares {record['n']:,} samples with all test digits, by the features of the shipped digit classifier. "
        "That classifier is independent of students and teacher. Standard errors of the distances are jackknife estimates. "
        f"The ratio is a student's distance divided by the teacher's in {teacher['steps']} steps. "
        "Its standard error is propagated to first order, as if the two were independent. "
        "The last row measures real training digits in the same way.\n\n"
        + table(rows, teacher)
        + "\n\nThe table gives processor seconds per 1,000 samples, measured on 250 samples of the first student and of the "
        f"teacher. OMP_WAIT_POLICY is {record['waiting']}; unless it is passive, idle threads add processor time.\n\n"
        "| who | median | quartiles | n |\n|---|---|---|---|\n"
        f"| student, 1 step | {spent['student']} |\n"
        f"| teacher, {teacher['steps']} steps | {spent['teacher']} |\n"
        f"| teacher divided by student | {spent['ratio']} |\n\n"
        "![Distance and recall against NFE](few.png)\n\n"
        f"*{record['date']}; {record['machine']}; "
        f"`OMP_WAIT_POLICY={record['waiting']} python benchmarks/few.py {' '.join(['STUDENT'] * len(many))} -n {record['n']}`*\n"
    )


def figure(record: dict[str, Any], path: Path) -> None:
    """Plot of distance, recognized share, precision and recall against NFE."""
    drawing = Figure(figsize=(11, 3.6), layout="constrained")
    axes = drawing.subplots(1, 3)
    floor = record["rows"][-1]
    for who in dict.fromkeys(row["who"] for row in record["rows"][:-1]):
        rows = [row for row in record["rows"] if row["who"] == who]
        marker = "s" if who == "teacher" else "o"
        calls = [row["calls"] for row in rows]
        distance = [row["frechet_distance_unbiased"]["value"] for row in rows]
        errors = [row["frechet_distance_unbiased"]["standard_error"] for row in rows]
        axes[0].errorbar(calls, distance, errors, marker=marker, label=who, capsize=3)
        axes[1].plot(calls, [row["recognized"]["value"] for row in rows], marker=marker, label=who)
        for name, style in (("precision", "-"), ("recall", "--")):
            axes[2].plot(calls, [row[name]["value"] for row in rows], style, marker=marker, label=f"{who}, {name}")
    axes[1].axhline(floor["recognized"]["value"], color="gray", linestyle=":", label="training digits")
    for one, word in zip(axes, ("Fréchet distance without bias", "recognized share", "precision and recall")):
        one.set(xscale="log", xlabel="NFE", ylabel=word)
        one.legend(fontsize=8)
    axes[0].set_ylim(bottom=0)
    drawing.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="*", help="finished runs of students of one teacher")
    parser.add_argument("-n", type=int, default=2000, help="samples per row, a multiple of 250")
    parser.add_argument("--rounds", type=int, default=5, help="rounds in which processor time is measured")
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark-few"))
    parser.add_argument("--out", type=Path, default=DOCS / "benchmarks", help="folder of few.json")
    parser.add_argument("--pages-only", action="store_true")
    given = parser.parse_args()
    if not given.pages_only:
        if not given.runs:
            parser.error("name the runs of students, or --pages-only")
        given.out.mkdir(parents=True, exist_ok=True)
        record = measure_all(given.runs, given.n, given.folder, given.rounds)
        (given.out / "few.json").write_text(json.dumps(record, indent=1) + "\n")
    record = json.loads((given.out / "few.json").read_text())
    (given.out.parent / "few.md").write_text(page(record))
    figure(record, given.out.parent / "few.png")


if __name__ == "__main__":
    main()
