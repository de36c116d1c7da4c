"""All benchmarks in sequence, and the page of their results; started by `make bench`.

    python benchmarks/every.py                     everything: about four hours of one quiet core
    python benchmarks/every.py startup memory      these parts and the page

Finished training runs are reused; delete a folder under runs/ to train it again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
DEMO = "runs/demo"
FOLDERS = {"diffusers": "runs/rival-diffusers", "lucidrains": "runs/rival-lucidrains"}
RIVALS = ["--rivals", *FOLDERS.values()]
PARTS: dict[str, list[str]] = {  # what each adds to `python`; in this order, because the later need the earlier
    "demo": ["-m", "kakusan", "demo", "--out", DEMO],
    "diffusers": ["-m", "rivals.train", "diffusers", FOLDERS["diffusers"]],
    "lucidrains": ["-m", "rivals.train", "lucidrains", FOLDERS["lucidrains"]],
    "time_to_quality": ["time_to_quality.py", *RIVALS],
    "sampling": ["sampling.py", "--run", DEMO, *RIVALS],
    "startup": ["startup.py", "--run", DEMO, *RIVALS],
    "memory": ["memory.py", "--run", DEMO, *RIVALS],
    "cost": ["cost.py"],
    "stepping": ["stepping.py"],
    "throughput": ["throughput.py"],
    "page": ["page.py"],
}


def command(part: str) -> list[str]:
    """Command of a part, from the project's root."""
    words = PARTS[part]
    script = [str(HERE / words[0])] if words[0].endswith(".py") else words[:1]
    return [sys.executable, *script, *words[1:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parts = parser.parse_args().parts or list(PARTS)
    for part in parts:
        if part not in PARTS:
            parser.error(f"no part {part!r}; there are {', '.join(PARTS)}")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}
    for part in [*parts, *(["page"] if "page" not in parts else [])]:
        print("+", *command(part), flush=True)
        subprocess.run(command(part), cwd=HERE.parent, env=environment, check=True)


if __name__ == "__main__":
    main()
