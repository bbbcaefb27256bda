"""The C library's allocator, set for training: memory once taken is used again, not given back to the system."""

import ctypes
import functools
import sys

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
