"""Time until samples are as good as another library's after --rival-minutes, in processor seconds.

    python benchmarks/time_to_quality.py --rivals runs/rival-diffusers runs/rival-lucidrains
    python benchmarks/time_to_quality.py --data emoji --size 64 --rivals runs/rival-emoji --folder runs/benchmark-emoji

Budgets are in seconds of two cores. Each of our runs is a process of its own with one thread and stores its samples in
--folder, so that an interrupted benchmark resumes. The rivals' folders are written by `rivals.train`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from images_task import DIGITS, ImagesTask
from results import CORES, Figure, Result, child


def one_run(task: ImagesTask, seconds: float, seed: int, n: int, target: Path) -> None:
    """Train for `seconds` of two cores, counted from the start of this process, and store n samples."""
    import torch
    from ours import trained

    torch.set_num_threads(1)
    model, trainer, spent = trained(task, CORES * seconds, CORES * time.process_time(), seed)
    images = trainer.state.images(trainer.settings.batch)
    began = time.process_time()
    pictures = np.asarray(model.sample(n, seed))
    facts = {"seconds": seconds, "spent": spent / CORES, "images": images, "sampling": time.process_time() - began}
    facts["task"] = task.flags
    facts["parameters"] = sum(p.numel() for p in trainer.module.parameters())
    target.with_suffix(".json").write_text(json.dumps(facts))
    half = target.with_suffix(".part.npy")
    np.save(half, pictures)
    half.replace(target)


def row(
    task: ImagesTask, who: str, seconds: float, seed: int, sampler: str, parameters: int, pictures: np.ndarray
) -> dict[str, Any]:
    head = {"library": who, "seconds of two cores": seconds, "seed": seed, "sampler": sampler, "parameters": parameters}
    return head | task.quality(pictures)


def our_rows(task: ImagesTask, budgets: list[float], seeds: list[int], n: int, folder: Path) -> list[dict[str, Any]]:
    """Rows of these runs, trained if missing, and of all other stored runs with n samples."""
    for seconds, seed in itertools.product(budgets, seeds):
        file = folder / f"kakusan-{seconds:g}s-seed{seed}-n{n}.npy"
        if not file.exists():
            child([sys.executable, __file__, "--one", str(seconds), str(seed), str(n), str(file), *task.flags])
    rows = []
    for file in folder.glob(f"kakusan-*s-seed*-n{n}.npy"):
        seconds, seed = (float(part.lstrip("sed").rstrip("s")) for part in file.stem.split("-")[1:3])
        facts = json.loads(file.with_suffix(".json").read_text())
        task.check(facts, file)
        rows.append(row(task, "kakusan", seconds, int(seed), "default", facts["parameters"], np.load(file)))
        print(rows[-1], flush=True)
    return sorted(rows, key=lambda one: (one["seconds of two cores"], one["seed"]))


def rival_rows(task: ImagesTask, folder: Path) -> list[dict[str, Any]]:
    record = json.loads((folder / "record.json").read_text())
    task.check(record, folder)
    rows = []
    for mark in record["marks"]:
        for sampler in mark["sampling"]:
            pictures = np.load(folder / f"minute-{mark['minutes']:g}-{sampler}.npy")
            rows.append(
                row(
                    task, record["rival"], 60 * mark["minutes"], record["seed"], sampler, record["parameters"], pictures
                )
            )
    return rows


def ratios(rows: list[dict[str, Any]], budget: float) -> dict[str, Any]:
    """Distance of the better rival after `budget` seconds, and our shortest budget that is better: per seed, and the mean."""
    full = [one for one in rows if one["library"] != "kakusan" and one["seconds of two cores"] == budget]
    if not full:
        return {"rival": f"no rival has trained for {budget:g} s"}
    best = min(full, key=lambda one: one["without bias"])
    ours: dict[float, list[float]] = {}
    for one in rows:
        if one["library"] == "kakusan":
            ours.setdefault(one["seconds of two cores"], []).append(one["without bias"])
    target = best["without bias"]
    means = {seconds: sum(found) / len(found) for seconds, found in ours.items()}
    each = min((seconds for seconds, found in ours.items() if max(found) <= target), default=None)
    mean = min((seconds for seconds, found in means.items() if found <= target), default=None)
    return {
        "rival": best["library"],
        "its sampler": best["sampler"],
        "its distance without bias": target,
        "its seconds": budget,
        "our seconds": each,
        "times less": None if each is None else round(budget / each, 1),
        "our seconds, by the mean of the seeds": mean,
        "times less, by the mean of the seeds": None if mean is None else round(budget / mean, 1),
        "that mean": None if mean is None else round(means[mean], 4),
    }


def best_samplers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the rivals with their best sampler at each mark, and ours."""
    kept: dict[tuple[str, float, int], dict[str, Any]] = {}
    for one in rows:
        key = (one["library"], one["seconds of two cores"], one["seed"])
        if key not in kept or one["without bias"] < kept[key]["without bias"]:
            kept[key] = one
    return list(kept.values())


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ImagesTask.add_flags(words)
    words.add_argument("--budgets", type=float, nargs="*", default=[15, 30, 60, 180], help="seconds of two cores")
    words.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    words.add_argument("--rivals", type=Path, nargs="*", default=[])
    words.add_argument("--rival-minutes", type=float, default=30.0, help="training time of the rival to compare with")
    words.add_argument("-n", type=int, default=1000, help="samples per run of ours")
    words.add_argument("--folder", type=Path, default=Path("runs/benchmark-quality"))
    words.add_argument("--one", nargs=4, metavar=("SECONDS", "SEED", "N", "FILE"), help=argparse.SUPPRESS)
    return words


def main() -> None:
    given = parser().parse_args()
    task = ImagesTask.given(given)
    if given.one:
        seconds, seed, n, file = given.one
        one_run(task, float(seconds), int(seed), int(n), Path(file))
        return
    given.folder.mkdir(parents=True, exist_ok=True)
    rows = [row for folder in given.rivals for row in rival_rows(task, folder)]
    rows += our_rows(task, given.budgets, given.seeds, given.n, given.folder)
    if task.data == DIGITS:
        from quality import NOTE
    else:
        from images_task import NOTE
    of_what = "" if task.data == DIGITS else f" of {Path(task.data).name}, {task.size} x {task.size},"
    Result(
        "time_to_quality" if task.data == DIGITS else f"time_to_quality-{Path(task.data).name}-{task.size}",
        f"How long until samples{of_what} are as good as another library's after {given.rival_minutes:g} minutes?",
        best_samplers(rows),
        [
            "A second of two cores is two processor seconds of a process with one thread. Importing, reading data and "
            "setup are included and count twice, because they keep one core busy. Drawing the measured samples is not "
            "included.",
            "The other libraries have networks small enough to learn something in that time, data in memory, averaged "
            "weights, and the best of their measured samplers. They use Adam with linear decay of the learning rate over "
            f"their {given.rival_minutes:g} minutes.",
            NOTE,
        ],
        [Figure("seconds of two cores", "without bias", "library", x_log=True, y_log=True, points=True)],
        ratios(rows, 60 * given.rival_minutes),
    ).write()


if __name__ == "__main__":
    main()
