"""Memory: how much there is, and the C library's allocator set for training."""

import ctypes
import functools
import os
import sys
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_LARGEST_KEPT = 1 << 30


@functools.cache
def reuse_freed_memory() -> bool:
    """Keep freed blocks of up to 1 GiB in the process; whether the C library could be told so (glibc can).

    A step of a small network frees and takes the same activations, megabytes each. glibc gives them back to the
    system every time, and the system fills every page with zeros again: 20,000 page faults a step for ResNet20 at
    batch 128, a tenth of its time (benchmarks/training_throughput.py). The process keeps its peak of memory.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def memory_here() -> int:
    """Bytes of memory that this machine has, or that the container it is in may use."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            found = min(found, int(Path(limit).read_text()))
        except (OSError, ValueError):  # no such limit, or "max"
            continue
    return found
