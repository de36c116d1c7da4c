"""report.html: one self-contained file, readable without scripts, a pure function of the run directory."""

from __future__ import annotations

import base64
import re
import shlex
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from kakusan.errors import InputError
from kakusan.run.directory import RunDirectory, to_go_on
from kakusan.run.report.figures import bound_curve, latent_bars, level_bars, term_bars

SHOWN_STAGES = 6
SMALLEST_LEVEL = 1e-4  # bits/dim
STAGE = re.compile(r"step-(\d+)\.png")
PICTURES = {
    "forward": (
        "Forward: noise comes",
        "Four test images, left to right from t = 0 to t = T: along a row one noise path, until only noise is left.",
    ),
    "reverse": (
        "Reverse: noise goes",
        "Two samples, left to right from t = T to t = 0: above the latent z_t, beneath it the network's guess of the data.",
    ),
    "clusters": (
        "Kinds of examples",
        "The centres of the clusters that k-means found before training, the most common first: a sample draws one, then denoises.",
    ),
    "closest": (
        "Are samples copies?",
        "Above the samples most like copies of a training picture, beneath each its nearest training picture.",
    ),
    "reconstructions": (
        "Reconstructions",
        "Rows in pairs: test images above, what the model makes of them beneath.",
    ),
}


def write_report(run: RunDirectory, out: Path) -> Path:
    """Write the page of a finished run; where it is."""
    if not run.finished:
        raise InputError(f"{run.path} is not finished; go on with: {to_go_on(run.path)}")
    page = render(run, run.read("summary.json"))
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {out} ({error.strerror}); choose another --out") from error
    return out


def render(run: RunDirectory, summary: dict[str, Any]) -> str:
    """The page as text."""
    record, data = run.read("run.json"), run.read("data.json")
    history = run.history()
    environment = Environment(
        loader=PackageLoader("kakusan.run", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    likelihood = summary.get("likelihood")  # a student has none
    return environment.get_template("page.html.j2").render(
        name=record["recipe"]["name"],
        record=record,
        data=data,
        summary=summary,
        likelihood=likelihood,
        minutes=summary["seconds"] / 60,
        command="\n".join(map(shlex.join, [record["command"], *record.get("resumed", [])])),
        samples=_png(run.path / "samples.png"),
        stages=_stages(run, history),
        strips=[
            {"title": title, "alt": alt, "source": source}
            for name, (title, alt) in PICTURES.items()
            if (source := _png(run.path / f"{name}.png"))
        ],
        curve=_data_url(bound_curve(history), "svg+xml") if history and likelihood else None,
        profile=_profile(likelihood, summary.get("latents") or []) if likelihood else None,
        bars=_data_url(term_bars(likelihood["terms"]), "svg+xml") if likelihood else None,
        history=history,
        settings=_flat({part: record["recipe"].get(part) or {} for part in ("model", "distil", "optim")}),
    )


def _profile(likelihood: dict[str, Any], latents: list[dict[str, Any]]) -> dict[str, str] | None:
    """What each noise level or each latent tells, as a figure with its words; nothing for other models."""
    levels = [level for level in likelihood.get("levels", []) if abs(level["bits_per_dim"]) >= SMALLEST_LEVEL]
    if levels:
        return _figure(
            level_bars(levels),
            "Bits per dimension of each range of noise levels: "
            + ", ".join(f"{level['name']} {level['bits_per_dim']:.4f}" for level in levels),
            "The network's part of the bound by noise level, the data's side first, with two standard errors: "
            "what it takes to undo that much of the noise. Levels below 0.0001 are left out.",
        )
    if latents:
        return _figure(
            latent_bars(latents),
            "Bits of each latent, sorted: "
            + "; ".join(f"{level['name']} {level['total']:.1f} bits" for level in latents),
            "What each latent tells about an image, the fullest first. A latent below 0.01 nats is called collapsed: "
            "its posterior is the prior.",
        )
    return None


def _figure(svg: bytes, alt: str, caption: str) -> dict[str, str]:
    return {"source": _data_url(svg, "svg+xml"), "alt": alt, "caption": caption}


def _stages(run: RunDirectory, history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Some of the sample sheets over the run, the last one among them."""
    rates = {line["step"]: line for line in history}
    found = sorted((int(match[1]), path) for path in run.samples.iterdir() if (match := STAGE.fullmatch(path.name)))
    if len(found) > SHOWN_STAGES:
        picked = {round(i * (len(found) - 1) / (SHOWN_STAGES - 1)) for i in range(SHOWN_STAGES)}
        found = [found[i] for i in sorted(picked)]
    return [
        {"step": step, "source": _png(path), "bits_per_dim": rates.get(step, {}).get("bits_per_dim")}
        for step, path in found
    ]


def _png(path: Path) -> str | None:
    return _data_url(path.read_bytes(), "png") if path.is_file() else None


def _data_url(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _flat(table: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for name, value in table.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((prefix + name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return rows
