"""report.html: one self-contained page without scripts, a pure function of the run directory."""

from __future__ import annotations

import base64
import io
import re
import shlex
import warnings
import zlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from PIL import Image

from kakusan.errors import DamageWarning, InputError
from kakusan.progress import progress, stages
from kakusan.run.directory import MOST_FIGURE_BYTES, RunDirectory, check_new, resume_command
from kakusan.run.recipe import recipe_of
from kakusan.run.report.figures import bound_curve, latent_bars, level_bars, loss_curve, term_bars
from kakusan.run.report.words import WORDS
from kakusan.storage import files

SHOWN_STAGES = 6
SMALLEST_LEVEL = 1e-4  # bits/dim below which a noise level is left out
WEAK_NOISE, LARGE_SHARE = 3, 0.25  # largest t of invisible noise, and the share of its bits that the page mentions
LAST_STEP = re.compile(r"\d+$")  # last step in the name of a range of steps
SMALLEST_ERROR = 0.00005  # bits/dim below which a standard error is not shown
MOST_PIXELS = 100_000_000
STAGE = re.compile(r"step-(\d{1,18})\.png")
SIZE = re.compile(r"_n\d+$")  # ending of the name of a measure that depends on the number of samples


def write_report(run: Path | str, out: Path | None = None, lang: str = "en") -> Path:
    """Write the report of a finished run to a file outside of the run, and return its path.

    Args:
        run: Run directory.
        out: New file (default: RUN-report.html in the current folder, RUN-report-ja.html in Japanese).
        lang: Language, "en" or "ja".

    Returns:
        The file.
    """
    directory = RunDirectory.open(Path(run))
    out = out or Path(f"{directory.path.resolve().name}-report{'' if lang == 'en' else f'-{lang}'}.html")
    check_new(out)
    recipe_of(directory.path, directory.read("run.json"))
    if not directory.finished:
        raise InputError(f"{directory.path} is not finished; resume with: {resume_command(directory.path)}")
    with stages("writing the report", 2) as done, files.writing(out):
        page = render(directory, directory.read("summary.json"), lang)
        done()
        files.replace(out, page.encode())
    return out


def render(run: RunDirectory, summary: dict[str, Any], lang: str = "en") -> str:
    """Return the page as text; `summary` has no likelihood before the run is measured."""
    words = WORDS[lang]
    record, data = run.read("run.json"), run.read("data.json")
    history = [line for line in run.history() if line["step"] <= summary["steps"]]
    likelihood = summary.get("likelihood")  # a student has none
    curves = [_bound_curve(history, words), _loss_curve(history, words)] if likelihood else []
    return template("page.html.j2").render(
        w=words,
        lang=lang,
        name=str(record["recipe"].get("name")),
        about=str(record["recipe"].get("summary", "")),
        record=record,
        data=data,
        summary=summary,
        likelihood=likelihood,
        minutes=summary["seconds"] / 60,
        command="\n".join(map(shlex.join, [record["command"], *record.get("resumed", [])])),
        samples=png(run, "samples.png"),
        stages=_stages(run, history),
        figures=[
            {"title": title, "caption": caption, "source": source}
            for name, (title, caption) in progress(words["figures"].items(), "writing the report")
            if (source := png(run, f"{name}.png"))
        ],
        tiles=_tiles(summary, words),
        notes=_notes(summary, words),
        small_notes=_small_notes(likelihood, words),
        curves=[curve for curve in curves if curve],
        simple_loss=bool(likelihood and likelihood.get("levels")),
        profile=_profile(likelihood, summary.get("latents") or [], words) if likelihood else None,
        bars=data_url(term_bars(likelihood["terms"]), "svg+xml") if likelihood else None,
        measures=_measures(summary["samples"], words) if "samples" in summary else [],
        settings=_flat({part: record["recipe"].get(part) or {} for part in ("model", "distil", "optim")}),
    )


def template(name: str) -> Template:
    """Load a template of this folder, which escapes all inserted text."""
    loader = PackageLoader("kakusan.run", "report")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True).get_template(name)


def _tiles(summary: dict[str, Any], words: dict[str, Any]) -> list[dict[str, str]]:
    """Return the tiles for quality, distance to real images and bits/dim, if they were measured."""
    tiles, samples, likelihood = [], summary.get("samples", {}), summary.get("likelihood")
    values, real = (
        {SIZE.sub("", name): e for name, e in samples.get(part, {}).items()} for part in ("measures", "floor")
    )
    known = values.keys() & real.keys()
    if "recognized" in known:
        share = {"value": f"{values['recognized']['value']:.1%}", "error": ""}
        number = f"{samples['num_samples']:,}"
        meaning = words["recognized_is"].format(n=number, real=f"{real['recognized']['value']:.1%}")
        tiles.append({"title": words["recognized"], **share, "meaning": meaning})
    if "frechet_distance" in known:
        score = f"{real['frechet_distance']['value']:.2f}"
        meaning = words["distance_is"].format(features=samples["features"], real=score)
        tiles.append({"title": words["distance"], **_numbers(values["frechet_distance"], 2), "meaning": meaning})
    if likelihood:
        rate = {"value": likelihood["bits_per_dim"], "standard_error": likelihood["standard_error"]}
        tiles.append({"title": "bits/dim", **_numbers(rate, 3), "meaning": words["rate_is"]})
    return tiles


def _numbers(entry: dict[str, Any], digits: int) -> dict[str, str]:
    """Return a value and its standard error as text; the error is empty if it is unknown."""
    error = entry.get("standard_error")
    precise = digits + 1 if error is not None and error < 0.5 * 10**-digits else digits
    return {"value": f"{entry['value']:.{digits}f}", "error": "" if error is None else f"{error:.{precise}f}"}


def _notes(summary: dict[str, Any], words: dict[str, Any]) -> list[str]:
    """Return sentences that explain surprising numbers."""
    notes, likelihood = [], summary.get("likelihood")
    if likelihood and "floor_bits_per_dim" in summary:
        floor = summary["floor_bits_per_dim"]
        notes.append(words["floor"].format(floor=f"{floor:.3f}", above=f"{likelihood['bits_per_dim'] - floor:.3f}"))
    weak = [
        (int(match[0]), level["bits_per_dim"])
        for level in (likelihood or {}).get("levels", [])
        if (match := LAST_STEP.search(level["name"]))
    ]
    weak = [(t, bits) for t, bits in weak if t <= WEAK_NOISE]
    if weak and likelihood and (share := sum(bits for _, bits in weak) / likelihood["bits_per_dim"]) >= LARGE_SHARE:
        notes.append(words["weak_noise"].format(share=f"{share:.0%}", t=max(t for t, _ in weak)))
    return notes


def _small_notes(likelihood: dict[str, Any] | None, words: dict[str, Any]) -> list[str]:
    """Return small print: nats, bits per example, the estimator and the parts of the standard error."""
    if not likelihood:
        return []
    nats, bits = f"{likelihood['nats']:.1f}", f"{likelihood['bits_per_example']:.0f}"
    counts = f"{likelihood['num_images']:,}"
    notes = [words["nats_are"].format(nats=nats, bits=bits, n=counts, estimator=likelihood["estimator"])]
    monte_carlo, images = (likelihood.get(f"standard_error_{part}") for part in ("monte_carlo", "images"))
    if monte_carlo is not None:
        notes.append(words["error_mc"].format(error=f"{monte_carlo:.4f}"))
        if images and images >= SMALLEST_ERROR:
            notes[-1] += " " + words["error_examples"].format(error=f"{images:.4f}")
    return notes


def _measures(samples: dict[str, Any], words: dict[str, Any]) -> list[dict[str, str]]:
    """Return one row for each measure: samples, standard error, real images, meaning."""
    rows, real = [], {SIZE.sub("", name): e for name, e in samples["floor"].items()}
    for name, entry in samples["measures"].items():
        plain = SIZE.sub("", name).replace("recognised", "recognized")  # spelling of version 0.3
        value, score = _numbers(entry, 4), real.get(SIZE.sub("", name))
        rows.append(
            {
                "name": name.replace("_", " ").replace("recognised", "recognized"),
                **value,
                "real": "" if score is None else f"{score['value']:.4f}",
                "meaning": words["meanings"].get(plain, ""),
            }
        )
    return rows


def _bound_curve(history: list[dict[str, Any]], words: dict[str, Any]) -> dict[str, str] | None:
    """Return the figure of the held-out bound during training; None if it was not measured."""
    lines = [line for line in history if {"bits_per_dim", "standard_error", "examples"} <= line.keys()]
    if not lines:
        return None
    ends = {name: f"{lines[place]['bits_per_dim']:.2f}" for name, place in (("first", 0), ("last", -1))}
    return _figure(bound_curve(lines), words["bound_alt"].format(**ends), words["bound_curve"])


def _loss_curve(history: list[dict[str, Any]], words: dict[str, Any]) -> dict[str, str] | None:
    """Return the figure of the training loss; None with fewer than two values."""
    lines = [line for line in history if line.get("loss") is not None and "examples" in line]
    if len(lines) < 2:
        return None
    ends = {name: f"{lines[place]['loss']:.3g}" for name, place in (("first", 0), ("last", -1))}
    return _figure(loss_curve(lines), words["loss_alt"].format(**ends), words["loss_curve"])


def _profile(likelihood: dict[str, Any], latents: list[dict[str, Any]], words: dict[str, Any]) -> dict[str, str] | None:
    """Return the figure of the noise levels or of the latents; None for other models."""
    levels = [level for level in likelihood.get("levels", []) if abs(level["bits_per_dim"]) >= SMALLEST_LEVEL]
    if levels:
        alt = ", ".join(f"{level['name']} {level['bits_per_dim']:.4f}" for level in levels)
        return _figure(level_bars(levels), f"{words['levels_alt']}: {alt}", words["levels"])
    if latents:
        alt = "; ".join(f"{level['name']} {level['total']:.1f} {words['bits']}" for level in latents)
        return _figure(latent_bars(latents), f"{words['latents_alt']}: {alt}", words["latents"])
    return None


def _figure(svg: bytes, alt: str, caption: str) -> dict[str, str]:
    return {"source": data_url(svg, "svg+xml"), "alt": alt, "caption": caption}


def _stages(run: RunDirectory, history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return some of the figures of samples during training, including the last one."""
    rates = {line["step"]: line for line in history}
    names = [path.name for path in run.samples.iterdir()] if run.samples.is_dir() else []
    found = sorted((int(match[1]), name) for name in names if (match := STAGE.fullmatch(name)))
    if len(found) > SHOWN_STAGES:
        picked = {round(i * (len(found) - 1) / (SHOWN_STAGES - 1)) for i in range(SHOWN_STAGES)}
        found = [found[i] for i in sorted(picked)]
    return [
        {"step": step, "source": source, "bits_per_dim": rates.get(step, {}).get("bits_per_dim")}
        for step, name in found
        if (source := png(run, f"samples/{name}"))
    ]


def png(run: RunDirectory, name: str) -> str | None:
    """Return a figure of the run as a data URL; None, with a warning, if it is not an image of reasonable size."""
    try:
        content = run.read_bytes(name, MOST_FIGURE_BYTES)
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=("PNG",))
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels")
            image.verify()
    except FileNotFoundError:
        return None
    except (OSError, ValueError, SyntaxError, MemoryError, OverflowError, zlib.error, *_BOMBS) as error:
        reason = getattr(error, "strerror", None) or error
        words = f"{run.path / name} is left out: not an image that kakusan wrote ({reason})"
        warnings.warn(words, DamageWarning, stacklevel=2)
        return None
    return data_url(content, "png")


_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def data_url(content: bytes, kind: str) -> str:
    """Return an image as a data URL."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _flat(table: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for name, value in table.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((prefix + name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return rows
