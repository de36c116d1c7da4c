"""Code blocks of the pages, for tests that run them."""

from __future__ import annotations

import re
import shlex
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


BUDGETS = {"--minutes", "--steps"}
SHORT = {  # flags of the commands of a page, with small values for a test
    "sample": {"-n": "2"},
    "evaluate": {"--limit": "10", "--classified": "4", "--error": None},
    "classify": {"--limit": "2", "--evaluations": "4"},
    "score": {"--evaluations": "4"},
}

UNETS = ("images", "mnist-ddpm")  # recipes whose network is made narrow
NARROW = {"--model.width": "8", "--model.inner-width": "16", "--model.blocks": "1"}


def commands(page: str) -> list[str]:
    """Lines of a page's shell blocks that start with kakusan, in order."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    return [line for line in lines if line.startswith("kakusan ")]


def shortened(line: str) -> list[str]:
    """Words of a command after kakusan, with a budget of a few steps and little to measure."""
    words = shlex.split(line, comments=True)[1:]
    small: dict[str, str | None] = dict(SHORT.get(words[0], {}))
    if words[0] == "train":
        small |= {**dict.fromkeys(BUDGETS), "--steps": "4" if "--resume" in words else "2"}
        small |= NARROW if words[1] in UNETS and "--init" not in words else {}
    if "--error" in words and words[0] == "evaluate":
        small["--error"] = "1.0"
    kept = [
        word for place, word in enumerate(words) if word not in small and (not place or words[place - 1] not in small)
    ]
    return [*kept, *(part for flag, value in small.items() if value is not None for part in (flag, value))]
