"""Figures of the report as SVG, readable on a light and on a dark page."""

from __future__ import annotations

import io
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

LONGEST_NAME = 60  # characters shown of a name
INK, ACCENT, SECOND = "#7a7f87", "#2f81c5", "#d1743a"
STYLE = {
    "font.size": 11,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "kakusan",
}


def bound_curve(history: list[dict[str, Any]]) -> bytes:
    """Plot held-out bits/dim, with two standard errors, against examples seen; also that of training examples if measured."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(6.4, 3.2))
        seen = [max(line["examples"], 1) for line in history]
        rate = [line["bits_per_dim"] for line in history]
        error = [2 * (line["standard_error"] or 0.0) for line in history]
        axes.fill_between(
            seen,
            [r - e for r, e in zip(rate, error)],
            [r + e for r, e in zip(rate, error)],
            color=ACCENT,
            alpha=0.2,
            lw=0,
        )
        axes.plot(seen, rate, color=ACCENT, marker="o", ms=4, label="held out")
        trained = [
            (one, line["train_bits_per_dim"]) for one, line in zip(seen, history) if "train_bits_per_dim" in line
        ]
        if trained:
            axes.plot(*zip(*trained), color=SECOND, ls="--", label="training set")
            axes.legend(frameon=False)
        axes.set(xscale="log", xlabel="training examples", ylabel="bits/dim")
        axes.xaxis.set_minor_formatter(NullFormatter())
        if max(rate) > 10 * min(rate) > 0:
            axes.set_yscale("log")
        return _svg(figure)


def loss_curve(history: list[dict[str, Any]]) -> bytes:
    """Plot the training loss against examples seen."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(6.4, 3.2))
        seen, loss = [max(line["examples"], 1) for line in history], [line["loss"] for line in history]
        axes.plot(seen, loss, color=SECOND, marker="o", ms=4)
        axes.set(xscale="log", xlabel="training examples", ylabel="training loss")
        axes.xaxis.set_minor_formatter(NullFormatter())
        if max(loss) > 10 * min(loss) > 0:
            axes.set_yscale("log")
        return _svg(figure)


def term_bars(terms: dict[str, float]) -> bytes:
    """Plot one bar for each term of the bound."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(6.4, 0.5 + 0.45 * len(terms)))
        values = list(terms.values())[::-1]
        names = [_plain(name) for name in terms][::-1]
        bars = axes.barh(names, values, color=[ACCENT if value >= 0 else SECOND for value in values], height=0.6)
        axes.bar_label(bars, fmt="%.3f", padding=4, color=INK)
        axes.margins(x=0.15)
        axes.set_xlabel("bits/dim")
        return _svg(figure)


def stacked_bars(models: dict[str, dict[str, float]]) -> bytes:
    """Plot one stacked bar per model from the terms of its bound; terms below 0 extend to the left."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.2, 1.2 + 0.45 * len(models)))
        names = list(dict.fromkeys(name for terms in models.values() for name in terms))
        rows = [_plain(model) for model in models]
        right, left = [0.0] * len(rows), [0.0] * len(rows)
        for number, name in enumerate(names):
            values = [terms.get(name, 0.0) for terms in models.values()]
            starts = [r if value >= 0 else n for value, r, n in zip(values, right, left)]
            color = ACCENT if number == 0 else plt.get_cmap("YlOrBr")(0.35 + 0.5 * number / len(names))
            axes.barh(rows, values, left=starts, color=color, height=0.6, label=_plain(name), edgecolor="white", lw=0.4)
            right = [r + max(value, 0.0) for r, value in zip(right, values)]
            left = [n + min(value, 0.0) for n, value in zip(left, values)]
        axes.invert_yaxis()
        axes.set_xlabel("bits/dim")
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        return _svg(figure)


def level_bars(levels: list[dict[str, Any]]) -> bytes:
    """Plot bits/dim of each range of noise levels, from the data to pure noise, with two standard errors."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(6.4, 0.6 + 0.3 * len(levels)))
        names = [_level_name(level) for level in levels][::-1]
        values = [level["bits_per_dim"] for level in levels][::-1]
        errors = [2 * (level["standard_error"] or 0.0) for level in levels][::-1]
        bars = axes.barh(names, values, xerr=errors, color=ACCENT, ecolor=INK, height=0.7)
        axes.bar_label(bars, fmt="%.4f", padding=4, color=INK, fontsize=9)
        axes.margins(x=0.15, y=0.01)
        axes.set_xlabel("bits/dim")
        return _svg(figure)


def _level_name(level: dict[str, Any]) -> str:
    log_snr = level["log_snr"]
    if not isinstance(log_snr, list) or not log_snr or not isinstance(log_snr[0], float):
        return _plain(level["name"])
    return f"{_plain(level['name'])}   log SNR {log_snr[0]:+.1f}"


def latent_bars(levels: list[dict[str, Any]]) -> bytes:
    """Plot the bits of each latent in descending order, with one panel for each level of the hierarchy."""
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(len(levels), 1, figsize=(6.4, 0.4 + 1.7 * len(levels)), squeeze=False)
        for axes, level in zip(panels[:, 0], levels):
            axes.bar(range(len(level["bits"])), sorted(level["bits"], reverse=True), color=ACCENT)
            axes.set(
                ylabel="bits",
                title=f"{_plain(level['name'])}: {level['total']:.1f} bits, {len(level['collapsed'])} collapsed",
            )
            axes.set_xticks([])
        return _svg(figure)


def _plain(text: str) -> str:
    """Escape a name from a record, so that it is not read as a formula."""
    return text[:LONGEST_NAME].replace("$", r"\$")


def _svg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.tight_layout()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    plt.close(figure)
    return buffer.getvalue()
