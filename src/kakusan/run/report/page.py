"""report.html: one self-contained page, readable without scripts, a pure function of the run directory."""

from __future__ import annotations

import base64
import io
import re
import shlex
import warnings
import zlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from kakusan.errors import DamageWarning, InputError
from kakusan.run.directory import MOST_FIGURE_BYTES, RunDirectory, refuse_inside_a_run, resume_command
from kakusan.run.report.figures import bound_curve, latent_bars, level_bars, term_bars
from kakusan.storage import files

SHOWN_STAGES = 6
SMALLEST_LEVEL = 1e-4  # bits/dim
MOST_PIXELS = 100_000_000
STAGE = re.compile(r"step-(\d{1,18})\.png")
FIGURES = {
    "forward": (
        "Forward process",
        "Four test images. Each row follows one path of the forward process: from the image (t = 0, left) to pure noise "
        "(t = T, right).",
    ),
    "reverse": (
        "Reverse process",
        "Two samples, from pure noise (t = T, left) to the sample (t = 0, right). The upper row of each pair is the "
        "latent z_t. The lower row is the network's estimate of the image from that z_t.",
    ),
    "clusters": (
        "Clusters",
        "Centers of the k-means clusters on which the model is conditioned, in order of their size. A sample first draws "
        "a cluster, then denoises.",
    ),
    "closest": (
        "Are samples copies of training images?",
        "Upper row: the samples that are closest to a training image. Lower row: the nearest training image of each.",
    ),
    "reconstructions": (
        "Reconstructions",
        "Rows in pairs. Upper row: test images. Lower row: the mean of the decoder for a latent drawn from the encoder.",
    ),
}
TERMS = {
    "reconstruction": "bits to encode an image given the first latent",
    "diffusion": "bits for the reverse steps between latents",
    "prior": "bits by which the last latent differs from pure noise",
    "cluster": "bits to name the cluster of an image",
    "kl": "bits by which the posterior of the latents differs from the prior",
    "grid": "width of a gray level, which turns a density into a probability",
    "bound": "the whole bound",
}


def write_report(run: Path | str, out: Path | None = None) -> Path:
    """Write the page of a finished run outside of it.

    Args:
        run: Run directory.
        out: File to write (default: RUN-report.html in the current folder).

    Returns:
        The file.
    """
    directory = RunDirectory.open(Path(run))
    out = out or Path(f"{directory.path.resolve().name}-report.html")
    refuse_inside_a_run(out)
    if not directory.finished:
        raise InputError(f"{directory.path} is not finished; resume with: {resume_command(directory.path)}")
    page = render(directory, directory.read("summary.json"))
    with files.writing(out):
        files.replace(out, page.encode())
    return out


def render(run: RunDirectory, summary: dict[str, Any]) -> str:
    """The page as text; `summary` has no likelihood before the run is measured."""
    record, data = run.read("run.json"), run.read("data.json")
    history = [line for line in run.history() if line["step"] <= summary["steps"]]
    environment = Environment(
        loader=PackageLoader("kakusan.run", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    likelihood = summary.get("likelihood")  # a student has none
    curve = [line for line in history if {"bits_per_dim", "standard_error", "examples"} <= line.keys()]
    return environment.get_template("page.html.j2").render(
        name=str(record["recipe"].get("name")),
        about=str(record["recipe"].get("summary", "")),
        record=record,
        data=data,
        summary=summary,
        likelihood=likelihood,
        minutes=summary["seconds"] / 60,
        command="\n".join(map(shlex.join, [record["command"], *record.get("resumed", [])])),
        samples=_png(run, "samples.png"),
        stages=_stages(run, history),
        figures=[
            {"title": title, "caption": caption, "source": source}
            for name, (title, caption) in FIGURES.items()
            if (source := _png(run, f"{name}.png"))
        ],
        curve=_data_url(bound_curve(curve), "svg+xml") if curve and likelihood else None,
        first=curve[0]["bits_per_dim"] if curve else None,
        last=curve[-1]["bits_per_dim"] if curve else None,
        profile=_profile(likelihood, summary.get("latents") or []) if likelihood else None,
        bars=_data_url(term_bars(likelihood["terms"]), "svg+xml") if likelihood else None,
        terms=TERMS,
        settings=_flat({part: record["recipe"].get(part) or {} for part in ("model", "distil", "optim")}),
    )


def _profile(likelihood: dict[str, Any], latents: list[dict[str, Any]]) -> dict[str, str] | None:
    """Figure of the noise levels or the latents; None for other models."""
    levels = [level for level in likelihood.get("levels", []) if abs(level["bits_per_dim"]) >= SMALLEST_LEVEL]
    if levels:
        return _figure(
            level_bars(levels),
            "Bits per dimension of each range of noise levels: "
            + ", ".join(f"{level['name']} {level['bits_per_dim']:.4f}" for level in levels),
            "Cost of the reverse steps by noise level, from the data (top) to pure noise, with two standard errors. "
            "A long bar is a noise level at which the network is uncertain. Levels below 0.0001 bits/dim are left out.",
        )
    if latents:
        return _figure(
            latent_bars(latents),
            "Bits of each latent, sorted: "
            + "; ".join(f"{level['name']} {level['total']:.1f} bits" for level in latents),
            "Information that each latent carries about an image, in descending order. A latent below 0.01 nats is "
            "called collapsed: its posterior equals the prior.",
        )
    return None


def _figure(svg: bytes, alt: str, caption: str) -> dict[str, str]:
    return {"source": _data_url(svg, "svg+xml"), "alt": alt, "caption": caption}


def _stages(run: RunDirectory, history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Some of the figures of samples during training, the last one among them."""
    rates = {line["step"]: line for line in history}
    names = [path.name for path in run.samples.iterdir()] if run.samples.is_dir() else []
    found = sorted((int(match[1]), name) for name in names if (match := STAGE.fullmatch(name)))
    if len(found) > SHOWN_STAGES:
        picked = {round(i * (len(found) - 1) / (SHOWN_STAGES - 1)) for i in range(SHOWN_STAGES)}
        found = [found[i] for i in sorted(picked)]
    return [
        {"step": step, "source": source, "bits_per_dim": rates.get(step, {}).get("bits_per_dim")}
        for step, name in found
        if (source := _png(run, f"samples/{name}"))
    ]


def _png(run: RunDirectory, name: str) -> str | None:
    """A figure of the run to embed; None, with a warning, for anything but an image of reasonable size."""
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
    return _data_url(content, "png")


_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


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
