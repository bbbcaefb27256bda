"""What a benchmark ran on, and where its figures go."""

import json
import os
import platform
import shutil
import statistics
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("medoid", "torch", "torchvision", "ray", "mlflow", "numpy", "numba", "pydantic")


def describe_machine() -> dict[str, Any]:
    """CPU model, cores this process may use, memory in GiB, GPUs, versions and commit: plain data."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpus": _gpus(),
        "system": platform.platform(),
        "versions": {"python": platform.python_version(), **_versions()},
        "commit": commit(),
    }


def commit() -> str:
    """The checkout's commit, with `+changes` where files differ from it; empty where there is no checkout."""
    try:
        head = _output("git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD")
        changed = _output("git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head + ("+changes" if changed else "")


def write_result(name: str, payload: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Write `<folder>/<name>.json`: the figures, and the machine they were taken on. A file is there whole or not."""
    path = folder / f"{name}.json"
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"benchmark": name, **payload, "machine": describe_machine()}, indent=2, ensure_ascii=False)
    aside = path.with_suffix(".part")
    aside.write_text(text + "\n", encoding="utf-8")
    aside.replace(path)
    return path


def summary(values: Sequence[float], digits: int = 4) -> dict[str, Any]:
    """Mean, sample standard deviation (None of a single value) and every value, rounded."""
    return {
        "mean": round(statistics.mean(values), digits),
        "std": round(statistics.stdev(values), digits) if len(values) > 1 else None,
        "values": [round(value, digits) for value in values],
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _gpus() -> list[str]:
    if shutil.which("nvidia-smi") is None:
        return []
    return _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines()


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue  # a bare GPU machine has no ray and no mlflow
    return found


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
