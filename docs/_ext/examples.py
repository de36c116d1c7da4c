"""Run the numbered examples and show their cells with what they print."""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
from pathlib import Path
from typing import Any

MARK = re.compile(r"<!-- example: (\w+\.py) -->")


def shown(path: Path) -> str:
    """An example as Markdown: its text, its code and the output of each cell. Its headings go down by one level."""
    parts, names = [], {"__name__": "__main__"}
    cells = re.split(r"^# %%(.*)\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for kind, cell in zip(cells[::2], cells[1::2], strict=True):
            if kind.strip() == "[markdown]":
                text = re.sub(r"^# ?", "", cell, flags=re.MULTILINE)
                parts.append(re.sub(r"^#", "##", text, flags=re.MULTILINE).strip())
            else:
                parts.append(f"```python\n{cell.strip()}\n```")
                if output := _output(cell, path, names):
                    parts.append(f"```text\n{output}\n```")
    return "\n\n".join(parts)


def _output(code: str, path: Path, names: dict[str, Any]) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, str(path), "exec"), names)
    return printed.getvalue().rstrip()


def fill(root: Path, text: str) -> str:
    """Put examples of `root` in place of their marks."""
    return MARK.sub(lambda match: shown(root / match[1]), text)
