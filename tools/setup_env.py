"""Make the virtual environment and install the project into it. Standard library only.

    python3 tools/setup_env.py .venv --torch auto --group test

A stamp in the environment remembers what it was made from; a second call then does nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TORCH = "2.13.0"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
INPUTS = ("pyproject.toml", "constraints.txt", "tools/setup_env.py")
OLDEST_PYTHON = (3, 11)


def run(*command: str, quiet: bool = False) -> bool:
    """Run a command from the project's root; False if it failed."""
    print("+", *command, flush=True)
    sink = subprocess.DEVNULL if quiet else None
    return subprocess.run(command, stdout=sink, stderr=sink, cwd=ROOT, check=False).returncode == 0


def must(*command: str) -> None:
    """Run a command, or stop with its words."""
    if not run(*command):
        sys.exit(f"setup failed at: {' '.join(command)}")


def install_torch(pip: list[str], kind: str) -> None:
    """The CPU build on Linux carries a local version, +cpu; elsewhere the plain name is the CPU (or Metal) build."""
    if kind == "cpu" and sys.platform == "linux":
        build = f"torch=={TORCH}+cpu"
        if run(*pip, build, quiet=True):  # a wheel that this machine already offers to pip
            return
        if run(*pip, "--retries", "1", "--extra-index-url", CPU_INDEX, build):
            return
        print(f"note: no CPU build of torch {TORCH} within reach; taking the default one, several GB on Linux")
    must(*pip, f"torch=={TORCH}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("--torch", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--group", action="append", default=[])
    args = parser.parse_args()
    if sys.version_info < OLDEST_PYTHON:
        version = sys.version.split()[0]
        sys.exit(f"kakusan needs Python 3.11 or newer, and this is {version}; type: make demo PYTHON=python3.12")

    kind = args.torch
    if kind == "auto":
        kind = "cuda" if shutil.which("nvidia-smi") else "cpu"
    home = ROOT / args.home
    stamp = home / "installed.txt"
    inputs = hashlib.sha256(b"".join((ROOT / name).read_bytes() for name in INPUTS)).hexdigest()
    old_kind, old_inputs, *groups = stamp.read_text().split() if stamp.exists() else ["", ""]
    if stamp.exists() and old_kind != kind:
        print(f"changing torch from {old_kind} to {kind}: making {args.home} anew")
        shutil.rmtree(home)
        old_inputs, groups = "", []
    fresh = old_inputs != inputs
    if not fresh and set(args.group) <= set(groups):
        return

    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        try:
            venv.create(home, with_pip=True)
        except (OSError, subprocess.CalledProcessError) as error:
            shutil.rmtree(home, ignore_errors=True)
            sys.exit(f"could not make {args.home}: {error}\nOn Debian or Ubuntu: apt-get install python3-venv")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pinned = [*pip, "-c", "constraints.txt"]
    wanted = sorted({*groups, *args.group})
    if fresh:
        must(*pip, "pip>=25.1")  # the first pip that knows --group
        install_torch(pinned, kind)
    must(*pinned, "-e", ".", *(word for group in wanted for word in ("--group", group)))
    stamp.write_text("\n".join([kind, inputs, *wanted]) + "\n")


if __name__ == "__main__":
    main()
