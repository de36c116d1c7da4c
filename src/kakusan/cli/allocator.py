"""Reuse of freed memory: the C library keeps what a tensor no longer needs for the next one."""

from __future__ import annotations

import ctypes
import os

# Numbers of glibc's malloc.h, and what they are set to
KEPT = (
    (-4, 0),  # M_MMAP_MAX: no tensor is a mapping of its own, which would be given back when it is freed
    (-1, -1),  # M_TRIM_THRESHOLD: nor is the end of the heap
    (-8, 1),  # M_ARENA_MAX: the threads of a step share one heap; others cannot hold large tensors
)
OTHERS = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")  # variables of a user who has chosen


def keep_freed_memory() -> bool:
    """Let this process keep freed memory until it ends; True if the C library accepted it.

    A step frees hundreds of megabytes and asks for them again. What glibc has given back meanwhile the kernel clears
    and maps anew, page by page: up to a quarter of a step's time on images of 64 x 64, nothing where tensors are small
    (docs/log.md, 2026-11-23). A process then holds the most that it has needed at any time, and up to twice that where
    sizes never come again; those of a training do. To be called first: threads that have taken memory before keep their
    ways. Other C libraries are left alone, and so is one that the user's environment sets up.
    """
    if any(name.startswith(OTHERS) for name in os.environ):
        return False
    try:
        set_to = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return False
    return all(set_to(number, value) for number, value in KEPT)
