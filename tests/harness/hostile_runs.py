"""Run directories and figures made to hurt, and a child process that gives them to the commands.

As a script it is that child: under a limit of address space, with an alarm for each case. It prints one JSON object.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import shutil
import signal
import socket
import sys
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

SECRET = "root:x:0:0:not-for-others"
MEGABYTES = 200  # above what the child needs for an honest run
ALARM_S = 60  # of a case; a refusal takes milliseconds, a hang never ends
SPARSE = 64 * 2**30
RECORDS = ("run.json", "data.json", "summary.json", "history.jsonl")
FIGURES = ("samples.png", "reconstructions.png", "samples/step-00000004.png")
CHECKPOINT = ("manifest.json", "state.json", "ema.safetensors")
COMMANDS = {
    "run.json": ("info", "doctor"),
    "data.json": ("info", "doctor"),
    "lock": ("doctor",),
    "owner.json": ("doctor",),
}
VALUES = (
    '"5"',
    "5.5",
    "-1",
    "1e400",
    "null",
    "[]",
    "{}",
    "true",
    '"\\u001b[2J"',
    "9" * 400,
    "[[[[[[1]]]]]]",
    '"$\\\\frac$"',
)


def special(path: Path, kind: str) -> None:
    """Put something else in place of a file."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        here = os.getcwd()
        os.chdir(path.parent)  # the name of a socket is short
        socket.socket(socket.AF_UNIX).bind(path.name)
        os.chdir(here)
    elif kind == "sparse":
        with path.open("wb") as file:
            file.truncate(SPARSE)
    elif kind == "zeros":
        path.write_bytes(bytes(1000))
    else:
        path.symlink_to({"device": "/dev/zero", "loop": path.name, "nowhere": "nowhere"}.get(kind, kind))


def attacks(run: Path, outside: Path) -> Iterator[tuple[str, Path, Callable[[Path], None]]]:
    """(name, file, what changes the copy of a run at that file) of every attack on a run directory."""
    names = [*RECORDS, "lock", "owner.json", *FIGURES]
    newest = max((run / "checkpoints").iterdir()).name
    names += [f"checkpoints/{newest}/{name}" for name in CHECKPOINT] + ["checkpoints", "samples"]
    for name in names:
        for kind in ("fifo", "folder", "socket", "sparse", "zeros", "device", "loop", "nowhere", str(outside)):
            yield f"{name} is {kind}", Path(name), lambda path, kind=kind: special(path, kind)
    for name in RECORDS:
        honest = (run / name).read_bytes()
        for label, content in {
            "byte-order mark": b"\xef\xbb\xbf" + honest,
            "UTF-16": honest.decode().encode("utf-16"),
            "half": honest[: len(honest) // 2],
            "deep": b"[" * 100_000 + b"\n",
            "twice": b'{"a": 1, "a": 2}\n',
            "latin-1": '{"a": "ä"}\n'.encode("latin-1"),
            "a list": b"[1, 2]\n",
            "empty": b"",
            "many lines": b"3\n" * 2_000_000,
        }.items():
            yield f"{name}: {label}", Path(name), lambda path, content=content: _write(path, content)
        record = json.loads(honest.splitlines()[0] if name == "history.jsonl" else honest)
        for place in leaves(record):
            for value in VALUES:
                text = replaced(record, place, value)
                yield f"{name}: {place} = {value[:20]}", Path(name), lambda path, text=text: _write(path, text.encode())


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def leaves(record: object, place: tuple = ()) -> Iterator[tuple]:
    """Place of each entry of a record; of a list the first one."""
    if isinstance(record, dict):
        for name, value in record.items():
            if place != () or name != "recipe":  # settings have their own attacks
                yield (*place, name)
                yield from leaves(value, (*place, name))
    elif isinstance(record, list) and record and not isinstance(record[0], str | int | float):
        yield from leaves(record[0], (*place, 0))


def replaced(record: dict, place: tuple, value: str) -> str:
    """The JSON text of a record in which one entry is another JSON text."""
    marker = "\0marker"
    copy = json.loads(json.dumps(record))
    inner = copy
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = marker
    return json.dumps(copy).replace(json.dumps(marker), value) + "\n"


def figures() -> Iterator[tuple[str, bytes]]:
    """Damaged PNG files."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "PNG")
    honest = buffer.getvalue()
    for length in range(0, len(honest), 3):
        yield f"cut at {length}", honest[:length]
    head, rest = honest[:33], honest[33:]
    bomb = zlib.compress(bytes(100_000_000))
    for kind in (
        b"zTXt",
        b"iTXt",
        b"tEXt",
        b"iCCP",
        b"pHYs",
        b"gAMA",
        b"tRNS",
        b"fcTL",
        b"acTL",
        b"cHRM",
        b"sRGB",
        b"eXIf",
    ):
        for content in (b"", b"\0", b"k\0", b"k\0\0" + bomb, b"k\0\1\0\0\0" + bomb, b"\xff" * 7):
            chunk = len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
            yield f"{kind!r} {content[:6]!r}", head + chunk + rest
    for width, height in ((0, 1), (2**31 - 1, 2**31 - 1), (50_000, 50_000), (2**32 - 1, 1)):
        size = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + honest[24:29]
        yield f"{width} x {height}", honest[:12] + size + zlib.crc32(size).to_bytes(4, "big") + rest


def call(*words: str) -> tuple[object, str]:
    """Run a command; its exit status, or the exception that came out, and all that it printed."""
    from kakusan.cli import main

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            main([*words])
        except SystemExit as done:
            return done.code, printed.getvalue()
        except BaseException as error:
            return f"{type(error).__name__}: {error}", printed.getvalue()
    return None, printed.getvalue()


def problem(status: object, text: str) -> str | None:
    """What is wrong with the end of a command, or None."""
    if status not in (0, 1, 2):
        return f"ended with {status}"
    if SECRET in text:
        return "printed a file from outside"
    if not all(line.isprintable() for line in text.splitlines()):
        return "printed a control character"
    return "printed a traceback" if "Traceback" in text else None


class TooLong(BaseException):
    """The alarm of a case."""


def child(run: Path, scratch: Path) -> dict:
    """Try every attack once; what failed, and how much was tried."""
    from kakusan.run.report import page

    for figure in ("bound_curve", "term_bars", "level_bars", "latent_bars"):
        drawn = getattr(page, figure)(*_honest(figure, run))  # once for real, then never again: it takes long
        setattr(page, figure, lambda *_, drawn=drawn: drawn)
    secret = scratch / "secret"
    secret.write_text(SECRET)
    call("info", str(run))
    call("doctor", str(run))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEGABYTES * 2**20,) * 2)
    failures, tried, refused, slowest = [], 0, 0, 0.0

    def wake(number: int, frame: object) -> None:
        raise TooLong

    signal.signal(signal.SIGALRM, wake)
    cases: list[tuple[str, Callable[[], list[tuple[object, str]]]]] = []
    for name, file, change in attacks(run, secret):
        cases.append((name, lambda file=file, change=change: _attacked(run, scratch, file, change)))
    for name, content in figures():
        cases.append((name, lambda content=content: _figure(scratch, content)))
    for name, case in cases:
        signal.alarm(ALARM_S)
        began = time.process_time()
        try:
            ends = case()
        except TooLong:
            ends = [("a hang", "")]
        signal.alarm(0)
        slowest = max(slowest, time.process_time() - began)
        tried += 1
        refused += any(status != 0 for status, _ in ends)
        failures += [f"{name}: {wrong}" for end in ends if (wrong := problem(*end))]
    return {"failures": failures, "tried": tried, "refused": refused, "slowest": slowest}


def _honest(figure: str, run: Path) -> tuple:
    summary = json.loads((run / "summary.json").read_text())
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    level = {"name": "t = $1$", "bits_per_dim": 1.0, "standard_error": 0.1, "log_snr": [1.0, 0.0]}
    return {
        "bound_curve": (history,),
        "term_bars": ({"$\\frac$": 1.0},),
        "level_bars": ([level],),
        "latent_bars": (summary["latents"],),
    }[figure]


def _attacked(run: Path, scratch: Path, file: Path, change: Callable[[Path], None]) -> list[tuple[object, str]]:
    copy = scratch / "run"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(run, copy)
    change(copy / file)
    page = scratch / "page.html"
    page.unlink(missing_ok=True)
    ends = []
    for command in COMMANDS.get(file.name, ("report",) if file.parts[0] != "checkpoints" else ("doctor", "export")):
        out = ["--out", str(page)] if command == "report" else []
        out = ["--out", str(scratch / "model.safetensors")] if command == "export" else out
        (scratch / "model.safetensors").unlink(missing_ok=True)
        status, text = call(command, str(copy), *out)
        ends.append((status, text + (page.read_text() if page.exists() else "")))
        if page.exists():
            ends[-1] = (status, text + (SECRET if leaked(page) else ""))
    return ends


def leaked(page: Path) -> bool:
    """True if a page holds the secret, as text or in base64."""
    import base64

    text = page.read_text()
    return SECRET in text or base64.b64encode(SECRET.encode()[:-3]).decode().rstrip("=")[:-2] in text


def _figure(scratch: Path, content: bytes) -> list[tuple[object, str]]:
    (scratch / "figure.png").write_bytes(content)
    return [call("info", str(scratch / "figure.png"))]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(child(Path(sys.argv[1]), Path(sys.argv[2]))))
