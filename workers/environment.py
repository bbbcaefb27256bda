"""What a trial ran on."""

import functools
import os
import platform
import shutil
import socket
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch


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


@functools.cache
def commit() -> str:
    """The commit of medoid's source, with `+` if the tree differs from it.

    Empty where it is not a checkout, or git is not installed.
    """
    source = Path(__file__).resolve().parents[1]
    if not (source / ".git").exists() or shutil.which("git") is None:
        return ""

    def git(*arguments: str) -> str:
        ran = subprocess.run(["git", "-C", str(source), *arguments], capture_output=True, text=True, check=False)
        return ran.stdout.strip()

    return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
