"""Code blocks of the pages, for tests that run them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str) -> list[str]:
    """Code blocks of one language in a page of the project."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [code for found, code in FENCE.findall(text) if found == language]


def prose(page: str) -> str:
    """Text of a page without code, link targets and formulas."""
    text = FENCE.sub("", (ROOT / page).read_text(encoding="utf-8"))
    return re.sub(r"^ {4}.*$|`[^`\n]*`|(?<=\])\([^)\s]*\)", "", text, flags=re.MULTILINE)
