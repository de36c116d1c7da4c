"""Folders that appear completely or not at all, and whose damage is detected.

A draft is written under a hidden name, and every file is synced. Then `manifest.json`, with name, size and SHA-256 of
each file, is written, and the folder is synced. The content is verified, the folder renamed, and its parent synced.

A visible folder is complete. A folder that `publish` has returned survives a power failure. A folder to be removed is
durably hidden first, so that a power failure never leaves half of it visible. This relies only on what POSIX guarantees
for fsync and rename.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Collection
from pathlib import Path
from stat import S_ISREG
from types import TracebackType
from typing import TypedDict

from kakusan.storage import files

MANIFEST = "manifest.json"
FORMAT = 1
PUBLISHED = re.compile(r"step-(\d{8,})")
LEFT_OVER = (".tmp-*", ".dead-*", ".draft-*")
FEWEST_KEPT = 2  # with only one, damage would leave no intact folder
MOST_MANIFEST_BYTES = 4 * 1024 * 1024


class Entry(TypedDict):
    """Entry of a manifest: size and digest of one file."""

    bytes: int
    sha256: str


class Draft:
    """Folder under construction; leaving its `with` block without `publish` removes it."""

    def __init__(self, root: Path, name: str):
        self.root, self.name = root, name
        self.path = root / f".tmp-{name}-{os.getpid()}"
        self.entries: dict[str, Entry] = {}
        if self.path.exists():  # left by a killed process with the same id
            files.remove(self.path)
        files.make_folder(self.path)

    def write(self, name: str, content: bytes) -> None:
        """Add a file and sync it."""
        files.write(self.path / name, content)
        self.entries[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    def publish(self) -> Path:
        """Make the folder visible, durably, and return its path.

        Raises:
            OSError: If the disk does not hold what was written; the folder does not appear then.
        """
        files.write(self.path / MANIFEST, _manifest(self.name, self.entries))
        files.sync_folder(self.path)
        problems = verify(self.path, self.name, self.entries, from_device=True)
        if problems:
            raise OSError(errno.EIO, f"the disk does not hold what was written: {problems[0]}", str(self.path))
        final = self.root / self.name
        files.rename(self.path, final)
        files.sync_folder(self.root)
        return final

    def __enter__(self) -> Draft:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.path.exists():
            return
        try:
            files.remove(self.path)
        except OSError as second:
            if error is None:
                raise
            error.add_note(f"{self.path} could not be removed either ({second})")  # `sweep` removes it later


def verify(
    folder: Path,
    name: str | None = None,
    entries: dict[str, Entry] | None = None,
    from_device: bool = False,
    contents: bool = True,
) -> list[str]:
    """Return the problems of a published folder, one sentence for each file; empty if it is intact.

    Args:
        folder: The folder.
        name: Name that its manifest must have (default: the folder's own name).
        entries: Entries that its manifest must have, if they are known.
        from_device: Read from the device, bypassing the system's cache.
        contents: Read the files; otherwise only names, types and sizes are checked.
    """
    try:
        if not _is_plain(folder / MANIFEST):
            return [f"{MANIFEST} is not a plain file"]
        files.read_regular(folder / MANIFEST, MOST_MANIFEST_BYTES)
        content = b"".join(files.chunks(folder / MANIFEST, from_device))
        listed = _entries(content, name or folder.name)
        if entries is not None and listed != entries:
            return [f"{MANIFEST} does not list what was written"]
        problems = [_problem(folder / file, entry, from_device, contents) for file, entry in sorted(listed.items())]
        found = {path.name for path in folder.iterdir()} - {MANIFEST}
    except FileNotFoundError:
        return [f"it has no {MANIFEST}" if folder.is_dir() else "there is no such folder"]
    except OSError as error:
        return [f"{MANIFEST} cannot be read ({error.strerror})"]
    except ValueError as error:
        return [f"{MANIFEST} {error}"]
    strangers = [f"{file!r} does not belong to it" for file in sorted(found - listed.keys())]
    return [problem for problem in problems if problem] + strangers


def published(root: Path) -> list[Path]:
    """Return published folders in the order of their steps, including damaged ones."""
    numbered = [(PUBLISHED.fullmatch(path.name), path) for path in root.iterdir()] if root.is_dir() else []
    found = [(int(match[1]), path) for match, path in numbered if match and path.is_dir()]
    return [path for _, path in sorted(found)]


def step_of(folder: Path) -> int:
    """Return the step in the name of a published folder."""
    return int(folder.name.removeprefix("step-"))


def newest_good(root: Path, at_most: int | None = None) -> tuple[Path | None, list[tuple[Path, str]]]:
    """Return the newest intact folder up to step `at_most`, and the newer damaged ones with their problems."""
    damaged = []
    for folder in reversed(published(root)):
        if at_most is not None and step_of(folder) > at_most:
            continue
        problems = verify(folder)
        if not problems:
            return folder, damaged
        damaged.append((folder, "; ".join(problems)))
    return None, damaged


def prune(root: Path, keep: int, known: Collection[Path] = ()) -> None:
    """Remove all but the newest `keep` intact folders; damaged folders are neither counted nor changed.

    The contents of `known` folders have been verified before and are not read again.
    """
    if keep < FEWEST_KEPT:
        raise ValueError(f"keep must be at least {FEWEST_KEPT}, got {keep}: damage to a single one would leave none")
    good = [folder for folder in reversed(published(root)) if not verify(folder, contents=folder not in known)]
    hidden = []
    for folder in good[keep:]:
        grave = root / f".dead-{folder.name}"
        if grave.exists():  # an earlier removal was interrupted
            files.remove(grave)
        files.rename(folder, grave)
        hidden.append(grave)
    if hidden:
        files.sync_folder(root)
    for grave in hidden:
        files.remove(grave)


def set_aside(folder: Path) -> Path:
    """Rename a damaged folder, so that an intact one can replace it, and return the new path. Nothing is removed."""
    number = 1
    while (aside := folder.with_name(f"damaged-{number}-{folder.name}")).exists():
        number += 1
    files.rename(folder, aside)
    return aside


def sweep(root: Path) -> None:
    """Remove leftovers of a killed process. Only the single writer of a root may call this."""
    for pattern in LEFT_OVER:
        for path in sorted(root.glob(pattern)):
            files.remove(path)


def _manifest(name: str, entries: dict[str, Entry]) -> bytes:
    ordered = {file: entries[file] for file in sorted(entries)}
    return (json.dumps({"format": FORMAT, "name": name, "files": ordered}, indent=1) + "\n").encode()


def _entries(content: bytes, name: str) -> dict[str, Entry]:
    """Return the entries of a manifest. ValueError if `_manifest` did not write it; its text follows the file's name."""
    try:
        record = json.loads(content)
        entries = record["files"]
        if record["format"] != FORMAT:
            raise ValueError(f"has format {record['format']!r}; this version of kakusan reads {FORMAT}")
        whole = _manifest(record["name"], entries) == content
        fits = all(
            type(entry["bytes"]) is int and len(entry["sha256"]) == 64 and Path(file).name == file
            for file, entry in entries.items()
        )
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError("is damaged") from error
    if not whole or not fits:  # any changed byte changes a value or the exact text that _manifest writes
        raise ValueError("is damaged")
    if record["name"] != name:
        raise ValueError(f"belongs to {record['name']!r}")
    return entries


def _is_plain(path: Path) -> bool:
    return S_ISREG(path.lstat().st_mode)


def _problem(path: Path, entry: Entry, from_device: bool, contents: bool) -> str | None:
    """Return the problem of one file, or None."""
    try:
        if not _is_plain(path):
            return f"{path.name} is not a plain file"
        digest, size = hashlib.sha256(), path.stat().st_size
        if contents and size == entry["bytes"]:
            size = 0
            for piece in files.chunks(path, from_device):
                digest.update(piece)
                size += len(piece)
    except FileNotFoundError:
        return f"{path.name} is missing"
    except OSError as error:
        return f"{path.name} cannot be read ({error.strerror})"
    if size != entry["bytes"]:
        return f"{path.name} has {size:,} bytes, expected {entry['bytes']:,}"
    if contents and digest.hexdigest() != entry["sha256"]:
        return f"the content of {path.name} has changed (SHA-256)"
    return None
