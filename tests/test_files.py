"""Every file that may come from anyone is opened through one door."""

import os
import socket
from pathlib import Path

import pytest

from harness.faults import catches
from kakusan.storage.files import open_regular, read_regular

pytestmark = pytest.mark.reliability


def test_a_regular_file_is_read_and_a_larger_one_is_refused(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"1234")
    assert read_regular(path, 4) == b"1234"
    with open_regular(path) as file:
        assert file.read() == b"1234"
    with pytest.raises(OSError, match="4 bytes, at most 3 bytes"):
        read_regular(path, 3)


def special_files(folder: Path) -> dict[str, str]:
    os.mkfifo(folder / "fifo")
    (folder / "folder").mkdir()
    (folder / "device").symlink_to("/dev/zero")
    (folder / "loop").symlink_to("loop")
    with (folder / "sparse").open("wb") as file:
        file.truncate(2**36)
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(folder)  # the path of a socket is short
        try:
            server.bind("socket")
        finally:
            os.chdir(here)
    return {
        "fifo": "a FIFO",
        "folder": "a folder",
        "device": "a device",
        "loop": "symbolic links",
        "sparse": "65,536 MiB, at most 1 MiB",
        "socket": "a socket",
        "missing": "No such file",
    }


@catches("""storage/files.py: devices and FIFOs are opened
- if not stat.S_ISREG(status.st_mode):
+ if False:""")
def test_nothing_else_is_opened_and_nothing_waits(tmp_path):
    for name, words in special_files(tmp_path).items():
        with pytest.raises(OSError, match=words):
            open_regular(tmp_path / name, 2**20)


@catches("""storage/files.py: a file is not looked at again after opening
- _check_regular(path, os.fstat(descriptor), limit)
+ pass""")
def test_a_file_that_becomes_a_fifo_after_the_first_look_does_not_hang(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "x").write_bytes(b"x")
    first_look = os.stat(tmp_path / "x")
    monkeypatch.setattr(os, "stat", lambda *_, **__: first_look)
    with pytest.raises(OSError, match="a FIFO"):
        open_regular(tmp_path / "fifo")


@catches("""storage/files.py: a growing file is read in part
- if len(content) > limit:
+ if False:""")
def test_a_file_that_grows_while_it_is_read_is_read_whole_or_refused(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"12345678")
    (tmp_path / "small").write_bytes(b"12")
    first_look = os.stat(tmp_path / "small")
    monkeypatch.setattr(os, "fstat", lambda _: first_look)
    monkeypatch.setattr(os, "stat", lambda *_, **__: first_look)
    assert read_regular(tmp_path / "x", 8) == b"12345678"
    with pytest.raises(OSError, match="larger than 7 bytes"):
        read_regular(tmp_path / "x", 7)


def test_a_link_is_followed_only_if_allowed(tmp_path):
    (tmp_path / "x").write_bytes(b"secret")
    (tmp_path / "link").symlink_to("x")
    assert read_regular(tmp_path / "link", 10) == b"secret"
    with pytest.raises(OSError, match="symbolic link"):
        open_regular(tmp_path / "link", follow=False)
