"""Reuse of freed memory: the C library keeps the memory of a deleted tensor for the next one."""

from __future__ import annotations

import ctypes
import os

# options of glibc's malloc.h and their values
KEPT = (
    (-4, 0),  # M_MMAP_MAX: no separate mapping for a tensor; freeing the tensor would return the mapping
    (-1, -1),  # M_TRIM_THRESHOLD: the end of the heap is never returned
    (-8, 1),  # M_ARENA_MAX: all threads share the main heap; other heaps cannot hold large tensors
)
OTHERS = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")  # variables by which a user configures the allocator


def keep_freed_memory() -> bool:
    """Make this process keep freed memory until it ends, and return whether the C library accepted that.

    A step frees hundreds of megabytes and allocates them again. If glibc returns them to the kernel, it must clear and map
    every page again. On images of 64 x 64 this can cost a quarter of a step (docs/log.md, 2026-11-23).
    The process keeps its peak memory, and up to twice that if allocation sizes never repeat. In training they repeat.
    Call this before other threads allocate memory. It affects only glibc, and no allocator that the user's
    environment configures.
    """
    if any(name.startswith(OTHERS) for name in os.environ):
        return False
    try:
        set_to = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return False
    return all(set_to(number, value) for number, value in KEPT)
