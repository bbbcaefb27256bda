"""Claim: exact greedy is at least 100 times as fast as submodlib's lazy greedy, on its own objective (`rbf`).

From features to picks and weights, residuals of ten classes (softmax of normal logits), budget 30 %:

    cifar10   n = 5,000, k = 1,500: a class of CIFAR-10
    svhn      n = 13,000, k = 3,900: a class of SVHN

submodlib's `euclidean` kernel is exp(-d/dim), medoid's `rbf`; its weights are counted from its picks, since it gives
none. apricot's facility location over negative distances has another objective, so only its time is compared.
The solvers take turns in one process; medoid is compiled before, and uses as many threads as there are cores.
Needs the extra `peers`.

    pip install -e '.[peers]' && python benchmarks/selection_peers.py [--rounds 5]
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from environment import ROOT, summary, write_result

from selection import Proxies, select

Float32 = npt.NDArray[np.float32]
SHAPES = {"cifar10": (5_000, 1_500), "svhn": (13_000, 3_900)}
SEED = 0


def residuals(n: int, seed: int) -> Float32:
    """(n, 10) residuals of one class."""
    logits = 3.0 * np.random.default_rng(seed).normal(size=(n, 10))
    odds = np.exp(logits)
    found = odds / odds.sum(axis=1, keepdims=True)
    found[:, 0] -= 1.0
    return found.astype(np.float32)


def value(points: Float32, picks: Any) -> float:
    """sum_i max_j exp(-d_ij / 10), in float64."""
    x, medoids = points.astype(np.float64), points[picks].astype(np.float64)
    total = 0.0
    for start in range(0, len(x), 500):
        squares = np.square(x[start : start + 500, None] - medoids[None]).sum(axis=2)
        total += float(np.exp(-np.sqrt(squares) / 10).max(axis=1).sum())
    return total


def counts(points: Float32, picks: Any) -> Any:
    """How many points have each pick as their nearest, by sorting out a k-d tree's answers."""
    from scipy.spatial import cKDTree

    return np.bincount(cKDTree(points[picks]).query(points)[1], minlength=len(picks))


def by_medoid(points: Float32, k: int) -> Any:
    """Picks, with weights."""
    n = len(points)
    return select(Proxies(np.arange(n), points, np.zeros(n, int)), budget=k, objective="rbf").ids


def by_submodlib(points: Float32, k: int) -> Any:
    """The same objective, lazy greedy: the paper's own choice."""
    from submodlib import FacilityLocationFunction

    function = FacilityLocationFunction(
        n=len(points), data=points, separate_rep=False, mode="dense", metric="euclidean"
    )
    found = function.maximize(
        budget=k, optimizer="LazyGreedy", stopIfZeroGain=False, stopIfNegativeGain=False, show_progress=False
    )
    picks = [row for row, _ in found]
    counts(points, picks)
    return picks


def by_apricot(points: Float32, k: int) -> Any:
    """Facility location over negative Euclidean distances, lazy greedy."""
    from apricot import FacilityLocationSelection

    picks = FacilityLocationSelection(k, metric="euclidean", optimizer="lazy").fit(points).ranking
    counts(points, picks)
    return picks


SOLVERS: dict[str, Callable[[Float32, int], Any]] = {
    "medoid": by_medoid,
    "submodlib": by_submodlib,
    "apricot": by_apricot,
}


def main() -> int:
    """Measure, print, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--name", default="selection_peers", help="name of the result file")
    arguments = parser.parse_args()
    by_medoid(residuals(2_000, 99), 300)  # compiles
    rows = {shape: _compare(*SHAPES[shape], arguments.rounds) for shape in arguments.shapes}
    path = write_result(
        arguments.name, {"rounds": arguments.rounds, "seed": SEED, "threads": os.cpu_count(), "shapes": rows}
    )
    print(f"-> {path.relative_to(ROOT)}")
    return 0


def _compare(n: int, k: int, rounds: int) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {name: [] for name in SOLVERS}
    ratios: dict[str, list[float]] = {name: [] for name in SOLVERS if name != "medoid"}
    values: list[float] = []
    for round_ in range(rounds):
        points, picks = residuals(n, SEED + round_), {}
        for name, solver in SOLVERS.items():
            time.sleep(0.5)  # idle threads of the solver before spin on for a while
            start = time.perf_counter()
            picks[name] = solver(points, k)
            seconds[name].append(time.perf_counter() - start)
        for name, found in ratios.items():
            found.append(seconds[name][-1] / seconds["medoid"][-1])
        values.append(value(points, picks["medoid"]) / value(points, picks["submodlib"]))
        told = ", ".join(f"{name} {taken[-1]:.3f} s" for name, taken in seconds.items())
        print(f"n = {n}, k = {k}: {told}; {ratios['submodlib'][-1]:.0f}x, value {values[-1]:.8f}", flush=True)
    return {
        "n": n,
        "k": k,
        "columns": 10,
        "seconds": {name: summary(taken) for name, taken in seconds.items()},
        "times_as_fast": {name: summary(found) for name, found in ratios.items()},
        "value_against_submodlib": {"least": min(values), "values": values},
    }


if __name__ == "__main__":
    sys.exit(main())
