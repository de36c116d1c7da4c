"""All reads and writes in a run directory.

A name is durable once its folder is synced, and content once its file is synced. POSIX guarantees no more. `watch` is
called before each operation, so that a test can record it, make it fail, or end the process there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path

from kakusan.errors import SaveError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

READ_BYTES = 2**16  # bytes per read; a single read up to the limit would allocate the whole limit
CHUNK_BYTES = 1 << 22
MIB = 1 << 20
# without O_NONBLOCK, opening a FIFO would wait for a writer
READ_FLAGS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
SPECIAL = {  # descriptions of files that are not regular
    stat.S_IFIFO: "a FIFO, not a file",
    stat.S_IFSOCK: "a socket, not a file",
    stat.S_IFCHR: "a device, not a file",
    stat.S_IFBLK: "a device, not a file",
    stat.S_IFDIR: "a folder, not a file",
}
FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)  # macOS, whose fsync leaves bytes in the drive's cache
# (operation, path, content or new name or None); the operations are the strings passed to _about_to below
watch: Callable[[str, Path, bytes | Path | None], None] | None = None


def write(path: Path, content: bytes) -> None:
    """Write and sync a file; its name is durable once its folder is synced."""
    _about_to("create", path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    _write_and_close(descriptor, "write", path, content)


def append(path: Path, content: bytes) -> None:
    """Append to a file and sync it; create it with a durable name if it is missing."""
    if not path.exists():
        write(path, b"")
        sync_folder(path.parent)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    _write_and_close(descriptor, "append", path, content)


def replace(path: Path, content: bytes) -> None:
    """Create or replace a file atomically: readers find the old or the new content, even after a power failure.

    If writing fails, the draft is removed.
    """
    draft = path.with_name(f".{path.name}.draft")
    try:
        write(draft, content)
        rename(draft, path)
    except OSError:
        with contextlib.suppress(OSError):  # report the first error
            draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Create a folder; its name is durable once its parent is synced."""
    _about_to("make folder", path)
    path.mkdir()


def make_folders(path: Path) -> None:
    """Create a folder and its missing parents, each with a durable name."""
    if path.is_dir():
        return
    make_folders(path.parent)
    try:
        make_folder(path)
    except FileExistsError:
        if not path.is_dir():  # another process created it first
            raise
    sync_folder(path.parent)


def rename(old: Path, new: Path) -> None:
    """Rename within one folder; a file replaces another, a folder only an empty one."""
    _about_to("rename", old, new)
    old.replace(new)  # rename does not replace a file on Windows


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    _about_to("sync folder", path)
    if not hasattr(os, "O_DIRECTORY"):  # Windows opens no folders; its file systems keep names in a journal
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file, or a folder with its content."""
    if path.is_dir() and not path.is_symlink():
        for inner in sorted(path.iterdir()):
            remove(inner)
        _about_to("remove folder", path)
        path.rmdir()
    else:
        _about_to("remove", path)
        path.unlink()


def open_regular(path: Path, limit: int | None = None, *, follow: bool = True) -> BufferedReader:
    """Open an existing regular file for reading, without waiting and without trusting its size.

    Args:
        path: File that may come from anyone.
        limit: Largest size in bytes (default: no limit).
        follow: Follow a symbolic link in the last part of the path (default: yes).

    Raises:
        OSError: If it is a FIFO, a socket, a device or a folder, or larger than the limit; `strerror` is the reason.
    """
    if not follow and path.is_symlink():
        raise OSError(errno.ELOOP, "a symbolic link, which is not followed here", str(path))
    _check_regular(path, os.stat(path), limit)  # before opening, because opening a device may already have an effect
    descriptor = os.open(path, os.O_RDONLY | READ_FLAGS | (0 if follow else NO_FOLLOW))
    try:
        _check_regular(path, os.fstat(descriptor), limit)  # checked again, because another file may have replaced it
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, limit: int, *, follow: bool = True) -> bytes:
    """Return all bytes of a regular file of at most `limit` bytes. Errors are those of `open_regular`."""
    content = bytearray()
    with open_regular(path, limit, follow=follow) as file:
        while piece := file.read(READ_BYTES):
            content += piece
            if len(content) > limit:  # the file grows while it is read
                raise OSError(errno.EFBIG, f"larger than {limit:,} bytes", str(path))
    return bytes(content)


def _check_regular(path: Path, status: os.stat_result, limit: int | None) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, SPECIAL.get(stat.S_IFMT(status.st_mode), "not a file"), str(path))
    if limit is not None and status.st_size > limit:
        raise OSError(errno.EFBIG, f"{_size(status.st_size)}, at most {_size(limit)}", str(path))


def _size(size: int) -> str:
    return f"{size / MIB:,.0f} MiB" if size >= MIB else f"{size:,} bytes"


def chunks(path: Path, from_device: bool = False) -> Iterator[bytes]:
    """Yield the chunks of a file; `from_device` first drops its cached pages, if the system allows it."""
    _about_to("read", path)
    with open_regular(path) as file:
        if from_device and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while piece := file.read(CHUNK_BYTES):
            yield piece


def ends_in_newline(path: Path) -> bool:
    """Return whether a file is empty or its last line is complete."""
    with open_regular(path) as file:
        if not file.seek(0, os.SEEK_END):
            return True
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Convert a failure to write into a one-line SaveError with the free space of the disk."""
    try:
        yield
    except OSError as error:
        raise SaveError(f"cannot write {path} ({error.strerror}); {free_words(path.parent)}") from error


def free_bytes(folder: Path) -> int:
    """Return the number of bytes that this user may still write on the disk of a folder."""
    return shutil.disk_usage(folder).free


def free_words(folder: Path) -> str:
    """Describe the free space, or state that it is unknown."""
    try:
        return f"{free_bytes(folder):,} bytes are free"
    except OSError as error:
        return f"the free space is unknown ({error.strerror})"


def _write_and_close(descriptor: int, operation: str, path: Path, content: bytes) -> None:
    try:
        _about_to(operation, path, content)
        rest = memoryview(content)
        while rest:
            written = os.write(descriptor, rest)
            if not written:
                raise OSError(errno.EIO, "nothing was written", str(path))
            rest = rest[written:]
        _about_to("sync", path)
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    if fcntl is None or FULL_SYNC is None:
        os.fsync(descriptor)
    else:
        fcntl.fcntl(descriptor, FULL_SYNC)


def _about_to(operation: str, path: Path, other: bytes | Path | None = None) -> None:
    if watch is not None:
        watch(operation, path, other)
