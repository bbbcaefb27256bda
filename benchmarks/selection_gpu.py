"""Claim: on an H100, exact greedy at ImageNet's shape takes at most 3 s, and n = 5,000, k = 1,500 at most 0.05 s.

Three parts, distances included, the proxies already on the device, warm-up outside the timing:

    imagenet   1,000 classes of 1,300 examples, residuals of 1,000 classes, 30 % of each
    five       one problem of 5,000 points in 10 dimensions, k = 1,500
    million    one problem of 1,000,000 points in 64 dimensions, k = 1,000, blockwise: no costs kept

Beside each stands the CPU's solver, on a part of the same proxies where all would take too long (`cpu_examples`).
Needs torch, NumPy and numba alone. Every finished round is written at once: run again, it takes only what is missing.

    python benchmarks/selection_gpu.py --minutes 10
    python benchmarks/selection_gpu.py --device cpu --small     to see that it works; its figures are not published
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from environment import RESULTS, ROOT, describe_machine

sys.path.insert(0, str(ROOT))

from selection import greedy
from selection.device import DeviceProblem, solve_on_device
from selection.problem import Problem

SEED = 0


@dataclass(frozen=True)
class Part:
    """One figure."""

    name: str
    classes: int
    n: int  # of each class
    columns: int
    k: int  # of each class
    rounds: int
    cpu_n: int  # examples of one class that the CPU solves, and
    cpu_k: int  # picks
    limit_s: float | None = None

    def problems(self, seed: int, device: torch.device) -> list[DeviceProblem]:
        """softmax - onehot of normal logits for `imagenet`; normal points around 100 centres otherwise."""
        draw = torch.Generator(device=device).manual_seed(seed)
        memory = "blockwise" if self.name == "million" else "auto"
        problems = []
        for label in range(self.classes):
            if self.name == "imagenet":
                logits = 3 * torch.randn((self.n, self.columns), generator=draw, device=device)
                rows = logits.softmax(dim=1)
                rows[:, label % self.columns] -= 1
            else:
                centres = torch.randn((100, self.columns), generator=draw, device=device)
                own = torch.randint(100, (self.n,), generator=draw, device=device)
                rows = centres[own] + 0.3 * torch.randn((self.n, self.columns), generator=draw, device=device)
            problems.append(DeviceProblem(rows, None, "frobenius", self.k, None, memory=memory))
        return problems


FULL = (
    Part("five", 1, 5000, 10, 1500, 10, 5000, 1500, 0.05),
    Part("imagenet", 1000, 1300, 1000, 390, 5, 1300, 390, 3.0),
    Part("million", 1, 1_000_000, 64, 1000, 2, 10_000, 1000),
)
SMALL = (
    Part("five", 1, 300, 10, 90, 3, 300, 90),
    Part("imagenet", 4, 65, 50, 20, 2, 65, 20),
    Part("million", 1, 500, 8, 20, 2, 500, 20),
)


def main() -> int:
    """Measure what is missing, print it. Returns 1 where a mean is over its limit, 2 where there is no such device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="no round is begun after so many minutes")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="sizes that any machine solves in seconds")
    parser.add_argument("--results", type=Path, help="where rounds are kept; for figures that are not published")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        print("torch sees no CUDA device; --device cpu --small tries the script out without one", file=sys.stderr)
        return 2
    published = given.device == "cuda" and not given.small
    path = given.results or (RESULTS / "selection_gpu.json" if published else None)
    kept = Record(path, {"device": given.device, "small": given.small})
    device = torch.device(given.device)
    deadline = time.monotonic() + 60 * given.minutes
    over = False
    for part in SMALL if given.small else FULL:
        measure(part, device, kept, deadline)
        over |= kept.show(part)
    return int(over)


class Record:
    """Seconds of every round so far, in a file that other rounds of the same kind and machine are added to."""

    def __init__(self, path: Path | None, kind: dict[str, Any]):
        self.path = path
        gpu = torch.cuda.get_device_name() if kind["device"] == "cuda" else None
        self.kind = {**kind, "gpu": gpu, "seed": SEED}
        self.parts: dict[str, dict[str, Any]] = {}
        if path is not None and path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))
            if before["kind"] != self.kind:
                raise SystemExit(f"{path} holds rounds of {before['kind']}, these are of {self.kind}: move it away")
            self.parts = before["parts"]

    def rounds(self, part: Part, which: str) -> list[float]:
        """Seconds so far of `device_s` or `cpu_s`."""
        return list(self.parts.get(part.name, {}).get(which, []))

    def add(self, part: Part, which: str, seconds: float) -> None:
        """Note a round, and write all."""
        own = self.parts.setdefault(part.name, {"shape": vars(part)})
        own.setdefault(which, []).append(round(seconds, 5))
        own[f"{which}_mean"] = round(statistics.mean(own[which]), 5)
        own[f"{which}_std"] = round(statistics.stdev(own[which]), 5) if len(own[which]) > 1 else None
        if self.path is not None:
            result = {
                "benchmark": "selection_gpu",
                "kind": self.kind,
                "parts": self.parts,
                "machine": describe_machine(),
            }
            self.path.parent.mkdir(parents=True, exist_ok=True)
            aside = self.path.with_suffix(".part")  # a call that is killed loses a round at most
            aside.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            aside.replace(self.path)

    def show(self, part: Part) -> bool:
        """Print a part's means; whether the device's is over the limit."""
        for which, what in (
            ("device_s", f"{part.classes} x {part.n} x {part.columns}, k = {part.k} each"),
            ("cpu_s", f"1 x {part.cpu_n} x {part.columns}, k = {part.cpu_k} on the CPU's solver"),
        ):
            rounds = self.rounds(part, which)
            if not rounds:
                print(f"{part.name}: {what}: no round yet")
                continue
            deviation = statistics.stdev(rounds) if len(rounds) > 1 else float("nan")
            limit = f", limit {part.limit_s} s" if part.limit_s and which == "device_s" else ""
            mean = statistics.mean(rounds)
            print(f"{part.name}: {what}: {mean:.4f} ± {deviation:.4f} s (n = {len(rounds)}{limit})")
        rounds = self.rounds(part, "device_s")
        return bool(rounds) and part.limit_s is not None and statistics.mean(rounds) > part.limit_s


def measure(part: Part, device: torch.device, kept: Record, deadline: float) -> None:
    """Take the rounds that are missing, while there is time."""

    def missing(which: str) -> bool:
        return len(kept.rounds(part, which)) < part.rounds and time.monotonic() < deadline

    if missing("device_s"):
        warm = Part(**{**vars(part), "classes": min(part.classes, 2), "n": min(part.n, 20_000), "k": min(part.k, 40)})
        solve_on_device(warm.problems(SEED, device), device)  # compiles
    while missing("device_s"):
        problems = part.problems(SEED + len(kept.rounds(part, "device_s")), device)
        kept.add(part, "device_s", _seconds(lambda asked=problems: solve_on_device(asked, device), device))
        del problems
    if missing("cpu_s"):
        _solve_on_cpu(part, SEED)  # compiles
    while missing("cpu_s"):
        kept.add(part, "cpu_s", _solve_on_cpu(part, SEED + len(kept.rounds(part, "cpu_s"))))


def _solve_on_cpu(part: Part, seed: int) -> float:
    one = Part(**{**vars(part), "classes": 1, "n": part.cpu_n})
    rows = one.problems(seed, torch.device("cpu"))[0].residuals.numpy()
    problem = Problem(rows, None, "frobenius", part.cpu_k, None)
    return _seconds(lambda: greedy.solve(problem), torch.device("cpu"))


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
