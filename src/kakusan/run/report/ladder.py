"""ladder.html: one self-contained page of a finished ladder, a function of ladder.json and the runs next to it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from kakusan.run.directory import RunDirectory
from kakusan.run.ladder import distance_words
from kakusan.run.report.figures import stacked_bars
from kakusan.run.report.ladder_words import LADDER_WORDS
from kakusan.run.report.page import data_url, png, template
from kakusan.storage import files


def write_page(out: Path, record: dict[str, Any], lang: str = "en") -> Path:
    """Write the page of a ladder, ladder.html or ladder-ja.html, unless it exists, and return its path.

    Args:
        out: Folder of the ladder.
        record: Content of its ladder.json.
        lang: Language, "en" or "ja".

    Returns:
        The file.
    """
    page = out / ("ladder.html" if lang == "en" else f"ladder-{lang}.html")
    if not page.exists():
        with files.writing(page):
            files.replace(page, render(out, record, lang).encode())
    return page


def render(out: Path, record: dict[str, Any], lang: str = "en") -> str:
    """Return the page as text; arguments as in `write_page`."""
    words, rungs = LADDER_WORDS[lang], record["rungs"]
    bounds = [rung["likelihood"] for rung in rungs]
    intro = words["intro"].format(budget=record["budget"], n=f"{bounds[0]['num_images']:,}", data=record["data"])
    return template("ladder.html.j2").render(
        w=words,
        lang=lang,
        record=record,
        intro=intro,
        rows=[_row(out, rung, before, words) for rung, before in zip(rungs, [None, *rungs])],
        bars=data_url(stacked_bars({rung["name"]: rung["likelihood"]["terms"] for rung in rungs}), "svg+xml"),
        command=shlex.join(record["command"]),
        runs=", ".join(str(out / rung["run"]) for rung in rungs),
        terms=[
            {"rung": rung["name"], "term": name, "value": f"{value:.4f}", "error": _error(bound["term_errors"][name])}
            for rung, bound in zip(rungs, bounds)
            for name, value in bound["terms"].items()
        ],
    )


def _row(out: Path, rung: dict[str, Any], before: dict[str, Any] | None, words: dict[str, Any]) -> dict[str, Any]:
    """Return one rung of the table, with its samples and the sentence about its terms."""
    bound, change = rung["likelihood"], rung["change"]
    parts = {"reconstruction": bound["terms"]["reconstruction"], "kl": rung["latent_bits_per_dim"]}
    if before is None:
        pays = words["pays"]["first"].format(**{name: f"{value:.3f}" for name, value in parts.items()})
    else:
        earlier = (before["likelihood"]["terms"]["reconstruction"], before["latent_bits_per_dim"])
        moved = {name: f"{value - was:+.3f}" for (name, value), was in zip(parts.items(), earlier)}
        pays = words["pays"]["reconstruction"].format(**moved)
    return {
        "name": rung["name"],
        "latents": rung["latents"],
        "parameters": f"{rung['parameters']:,}",
        "steps": f"{rung['steps']:,}",
        "bits": f"{bound['bits_per_dim']:.3f}",
        "error": _error(bound["standard_error"]),
        **{name: f"{value:.3f}" for name, value in parts.items()},
        "moved": "" if change is None else f"{change['difference']:+.3f} ± {change['standard_error']:.4f}",
        "distance": distance_words(rung["samples"]),
        "new": words["changes"][rung["name"]],
        "pays": pays,
        "samples": png(RunDirectory(out / rung["run"]), "samples.png"),
    }


def _error(standard_error: float | None) -> str:
    return "" if standard_error is None else f"{standard_error:.4f}"
