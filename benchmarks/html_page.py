"""The exported page in headless Chromium: how equal its samples are to Python's, and how fast it is.

    python benchmarks/html_page.py --runs runs/demo runs/student --seeds 100

Each run is exported and its page is opened from a file. Sample 0 of each seed is drawn in the page and in Python, and
their pixels are compared. Times are of the clock: from the click to the first sample, and of one further sample.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from browser import Page
from results import Result, Spread

import kakusan as kk

AT_ONCE = 5  # samples per message from the page
REPEATS = 7
FIRST = "Boolean(document.body && document.body.dataset.first)"
READY = "Boolean(document.body && document.body.dataset.state === 'ready')"
DRAWN = "[...Array(%d)].map((_, k) => [...state.model.pixels(state.model.sample(%d + k, 0, state.model.facts.default_steps))])"
TIMED = "(() => { const begun = performance.now(); state.model.sample(%d, 0, state.model.facts.default_steps); return performance.now() - begun; })()"


def measured(run: Path, seeds: int) -> dict[str, Any]:
    """Row of one run."""
    with tempfile.TemporaryDirectory() as folder:
        file = kk.export(run, Path(folder) / "page.html", "html").path
        load = os.getloadavg()[0]
        with Page(file.as_uri()) as page:
            page.wait(FIRST)
            first = page.evaluate("Number(document.body.dataset.first)") / 1000
            page.wait(READY)
            single = Spread.of([page.evaluate(TIMED % seed) / 1000 for seed in range(REPEATS)])
            found = [
                one for at in range(0, seeds, AT_ONCE) for one in page.evaluate(DRAWN % (min(AT_ONCE, seeds - at), at))
            ]
            steps = page.evaluate("state.model.facts.default_steps")
            asked, messages = len(page.requests) - 1, len(page.messages)
        size = file.stat().st_size
    model = kk.load(run, device="cpu")
    wanted = np.stack([np.asarray(model.sample(1, seed=seed)) for seed in range(seeds)])
    off = np.abs(np.array(found) - np.moveaxis(wanted.astype(int), -1, 2).reshape(seeds, -1))
    return {
        "run": model.recipe.name,
        "MB": round(size / 1e6, 2),
        "steps": steps,
        "seeds": seeds,
        "largest difference / 255": int(off.max()),
        "equal pixels": f"{(off == 0).mean():.2%}",
        "pixels within 2": f"{(off <= 2).mean():.2%}",
        "requests": asked,
        "console": messages,
        "s to the first sample": round(first, 2),
        "s per sample": round(single.median, 3),
        "quartiles": f"{single.low:.3f} to {single.high:.3f}",
        "load": round(load, 1),
    }


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--runs", type=Path, nargs="+", required=True, help="finished runs or exported files")
    words.add_argument("--seeds", type=int, default=100)
    return words


def main() -> None:
    given = parser().parse_args()
    torch.set_num_threads(1)
    rows = []
    for run in given.runs:
        rows.append(measured(run, given.seeds))
        print(rows[-1], flush=True)
    Result(
        "html_page",
        "Does the exported page draw Python's samples, and how fast?",
        rows,
        [
            "One page at a time in headless Chromium, from a file. A request or a message of the console besides the page "
            "itself would be counted. The load is that of the machine before the page was opened."
        ],
    ).write()


if __name__ == "__main__":
    main()
