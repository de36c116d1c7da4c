"""All results of docs/benchmarks/ as one page, docs/benchmarks.md, with the figures of each result.

    python benchmarks/page.py

Every number of the page comes from a file that a benchmark wrote.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from results import DOCS

HEAD = """# Benchmarks

Written by `python benchmarks/page.py` from the files of docs/benchmarks/. Scripts of benchmarks/ write those files, and `make bench`
runs the scripts. The versions of the other libraries are pinned in benchmarks/rivals.txt, in a separate environment.

Measure again with `make bench` (about four hours of one core) or `make bench PARTS="startup memory"` for a part.
"""


def cell(value: Any) -> str:
    """Value as text."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value).replace("|", "\\|")
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def table(rows: list[dict[str, Any]]) -> str:
    """Table in Markdown, a column per key."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell(row.get(column)) for column in columns) + " |" for row in rows]
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], wanted: dict[str, Any], path: Path) -> None:
    """Plot column y against column x, in the color of its group."""
    if wanted["among"]:
        column, value = wanted["among"]
        rows = [row for row in rows if row.get(column) == value]
    picture = Figure(figsize=(7, 4.2), layout="constrained")
    axes = picture.subplots()
    for group in dict.fromkeys(row[wanted["by"]] for row in rows):
        points = sorted((row[wanted["x"]], row[wanted["y"]]) for row in rows if row[wanted["by"]] == group)
        axes.plot(*zip(*points), marker="o", linestyle="none" if wanted["points"] else "-", label=str(group))
    for side, log in (("x", wanted["x_log"]), ("y", wanted["y_log"])):
        if log:
            axes.set(**{f"{side}scale": "log"})
    axes.set(xlabel=wanted["x"], ylabel=wanted["y"])
    axes.grid(alpha=0.3)
    axes.legend()
    picture.savefig(path, dpi=110)


def section(result: dict[str, Any], folder: Path) -> str:
    """Section of one result: question, table, figures, notes, machine."""
    made = result["made"]
    parts = [f"## {result['question']}"]
    if result["facts"]:
        parts.append(
            "\n".join(f"* {key}: {cell(value)}" for key, value in result["facts"].items() if value is not None)
        )
    parts.append(table(result["rows"]))
    for number, wanted in enumerate(result["figures"], 1):
        name = f"{result['name']}-{number}.png"
        draw(result["rows"], wanted, folder / name)
        parts.append(f"![{wanted['y']} against {wanted['x']}]({folder.name}/{name})")
    parts += result["notes"]
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    parts.append(
        f"*{made['date']}; {made['cores']} cores of {made['processor']}, load {made['load_at_the_end']:.1f} at the end; "
        f"Python {made['python']}, {versions}; `{made['command']}`*"
    )
    return "\n\n".join(part for part in parts if part)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=Path, default=DOCS)
    docs = parser.parse_args().docs
    folder = docs / "benchmarks"
    sections = [HEAD.strip()]
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text())
        if isinstance(result, dict) and set(result) >= {"question", "rows", "made"}:
            sections.append(section(result, folder))
        else:
            print(f"left out, because it is not a result as results.py writes it: {path}")
    (docs / "benchmarks.md").write_text("\n\n".join(sections) + "\n")
    print(docs / "benchmarks.md")


if __name__ == "__main__":
    main()
