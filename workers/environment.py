"""What a trial ran on."""

import functools
import os
import platform
import socket
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from workers.commits import commit


def describe(device: torch.device) -> dict[str, Any]:
    """Host, hardware, versions and commit, as `TrialTimes` wants them."""
    return {
        "host": socket.gethostname(),
        "hardware": hardware(device),
        "versions": versions(),
        "commit": commit(),
    }


def hardware(device: torch.device) -> str:
    """The processor that did the work, such as `AMD EPYC, 2 cores` or `NVIDIA H200`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {len(_affinity())} cores"


def _affinity() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


@functools.cache
def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux: the platform module knows less
    return platform.processor() or platform.machine()


@functools.cache
def versions() -> dict[str, str]:
    """Versions of what computes."""
    found = {"python": platform.python_version()}
    for package in ("medoid", "torch", "torchvision", "numpy", "numba"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    return found
