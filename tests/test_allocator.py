"""Memory that is freed is kept for the next tensor, unless the user has set it up otherwise."""

import ctypes
import os
import platform

import pytest

from harness.faults import catches
from kakusan import cli
from kakusan.cli.allocator import OTHERS, keep_freed_memory

MB = 2**20


@pytest.fixture
def nothing_set_up(monkeypatch):
    for name in list(os.environ):
        if name.startswith(OTHERS):
            monkeypatch.delenv(name)


@catches("""cli/allocator.py: tensors are mapped and given back as glibc has it
- (-4, 0),""")
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's malloc that is told")
def test_memory_that_was_freed_is_taken_again_without_the_kernel(nothing_set_up):
    import resource

    assert keep_freed_memory()
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

    def faults() -> int:
        """Pages that the kernel brings for four times 64 MB, one after the other."""
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(4):
            block = libc.malloc(64 * MB)
            ctypes.memset(block, 1, 64 * MB)
            libc.free(block)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    faults()
    assert faults() < 16  # four times 16,384 pages otherwise, or four times 32 where they are large ones


@catches("""cli/allocator.py: what a user has set up of the allocator is overridden [GLIBC_TUNABLES]
- return False
-     try:
+ pass
+     try:""")
@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES", "LD_PRELOAD"])
def test_what_the_users_environment_sets_up_is_left_alone(nothing_set_up, monkeypatch, name):
    monkeypatch.setenv(name, "")
    assert keep_freed_memory() is False


@catches("""cli/__init__.py: the command leaves memory to glibc
-     keep_freed_memory()
-""")
def test_the_command_keeps_memory_before_all_else(monkeypatch):
    seen = []
    monkeypatch.setattr(cli, "keep_freed_memory", lambda: seen.append("memory"))
    monkeypatch.setattr(cli, "_dispatch", lambda arguments: seen.append("verb") or 0)
    with pytest.raises(SystemExit):
        cli.main([])
    assert seen == ["memory", "verb"]
