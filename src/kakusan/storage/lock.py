"""Lock for the single writer of a folder, with a record of the holder. The system frees it when the process ends."""

from __future__ import annotations

import os
import platform
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kakusan.errors import DamageWarning, InputError, SaveError
from kakusan.storage import files, records

LOCK, OWNER = "lock", "owner.json"
OWNER_KEYS = {"pid", "host", "since", "command"}


class Busy(Exception):
    """Error: another process holds the lock; `owner` is its record, empty if unreadable."""

    def __init__(self, owner: dict[str, Any]):
        super().__init__(owner)
        self.owner = owner


class WriterLock:
    """The lock of one folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._lock: FileLock | None = None

    def acquire(self) -> None:
        """Become the single writer.

        Raises:
            Busy: If another process is the writer.
            SaveError: If the folder is not writable.
        """
        lock = FileLock(self.folder / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise Busy(self._record()) from error
        except OSError as error:
            raise SaveError(
                f"cannot write in {self.folder} ({error.strerror}); make it writable, or copy it"
            ) from error
        self._lock = lock
        try:
            files.replace(self.folder / OWNER, records.to_bytes(_this_process()))
        except BaseException:
            self._lock = None
            lock.release()
            raise

    def release(self) -> None:
        """Release the lock; nothing happens if it is not held."""
        if self._lock is None:
            return
        lock, self._lock = self._lock, None
        owner = self.folder / OWNER
        try:
            if owner.exists():
                files.remove(owner)
        except OSError as error:  # the record counts only while the lock is held
            warnings.warn(f"{owner} cannot be removed ({error.strerror})", DamageWarning, stacklevel=2)
        finally:
            lock.release()

    def owner(self) -> dict[str, Any] | None:
        """Return the record of the process that holds the lock (empty if unreadable), or None; the lock does not change."""
        path = self.folder / LOCK
        if path.is_symlink() or not path.is_file():
            return None
        probe = FileLock(path)
        try:
            probe.acquire(timeout=0)
        except Timeout:
            return self._record()
        except OSError:  # a folder of another user, and only that user can write here
            return None
        probe.release()
        return None

    def _record(self) -> dict[str, Any]:
        """Return the record, or an empty one while the process is starting or ending."""
        try:
            content = files.read_regular(self.folder / OWNER, records.MOST_BYTES, follow=False)
            owner = records.parse(content, OWNER)
        except (OSError, InputError):
            return {}
        if not isinstance(owner, dict) or not owner.keys() >= OWNER_KEYS:
            return {}
        command = owner["command"]
        return owner if isinstance(command, list) and all(isinstance(word, str) for word in command) else {}


def _this_process() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": platform.node(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }
