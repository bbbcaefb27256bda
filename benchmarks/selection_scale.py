"""Claims: what selection takes on 2 cores, in time and in memory beyond its input.

    imagenet     1,000 classes of 1,300 examples, 1,000-d residuals, 30 % of each: at most 20 s, at most 1 GB
    blockwise    one problem of 100,000 points, d = 64, k = 1,000, exact: at most 2 GB, time within twice the plan's
    million      one problem of 1,000,000 points, d = 64, k = 10,000, GreeDi in 64 parts: at most 120 s, at most 4 GB
    growth       GreeDi's time from 10^4 to 10^6 points (d = 64, k = 1,000): exponent at most 1.1
    last_layer   n = 5,000, C = 10, D = 512, k = 500: factored against materialised: 5 times as fast, 1/5 memory
    first_call   the first selection after installation, which compiles: at most 10 s

Each part runs in a process of its own, with its peak memory reset once the input is there, and writes its figures at
once: `--parts` names those to take (again).

    python benchmarks/selection_scale.py [--parts imagenet million …] [--rounds 3]
"""

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from environment import RESULTS, ROOT, summary, write_result

from selection import Proxies, plan, select

Float32 = npt.NDArray[np.float32]
Figures = dict[str, Any]
SEED = 0


def main() -> int:
    """Take the parts asked for, each in a process of its own, and add their figures to the others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=3, help="of each part; `million` and `growth` take one each")
    parser.add_argument("--name", default="selection_scale", help="name of the result file")
    parser.add_argument("--here", action="store_true", help="one part in this process, its figures to standard output")
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(PARTS[arguments.parts[0]](arguments.rounds)))
        return 0
    for part in arguments.parts:
        command = [sys.executable, __file__, "--here", "--parts", part, "--rounds", str(arguments.rounds)]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode:
            print(f"{part}: {answer.stderr}", file=sys.stderr)
            return 1
        figures = json.loads(answer.stdout.splitlines()[-1])
        stored = RESULTS / f"{arguments.name}.json"
        parts = json.loads(stored.read_text(encoding="utf-8"))["parts"] if stored.exists() else {}
        write_result(arguments.name, {"seed": SEED, "threads": os.cpu_count(), "parts": {**parts, part: figures}})
        print(f"{part}: {json.dumps(figures)}", flush=True)
    return 0


def imagenet(rounds: int) -> Figures:
    """Class by class, as ImageNet has them."""
    classes, size = 1_000, 1_300
    n, k = classes * size, classes * size * 3 // 10
    residuals = np.empty((n, classes), np.float32)
    labels = np.arange(n) % classes
    stream = np.random.default_rng(SEED)
    for start in range(0, n, size):
        logits = 3.0 * stream.standard_normal((size, classes), np.float32)
        odds = np.exp(logits)
        residuals[start : start + size] = odds / odds.sum(axis=1, keepdims=True)
    residuals[np.arange(n), labels] -= 1.0
    proxies = Proxies(np.arange(n), residuals, labels)
    _compile(classes, "frobenius", memory="dense")
    planned = plan([size] * classes, budget=k, columns=classes)
    return _measured(rounds, lambda: select(proxies, budget=k), planned)


def blockwise(rounds: int) -> Figures:
    """One problem whose matrix of distances would take 40 GB."""
    n, k = 100_000, 1_000
    proxies = _one_class(_clusters(n, 64))
    _compile(64, "frobenius", memory="blockwise")
    planned = plan([n], budget=k, columns=64, memory="blockwise", memory_limit=1 << 30)
    return _measured(rounds, lambda: select(proxies, budget=k, memory="blockwise", memory_limit=1 << 30), planned)


def million(_: int) -> Figures:
    """GreeDi where nothing else goes."""
    n, k = 1_000_000, 10_000
    proxies = _one_class(_clusters(n, 64))
    _compile(64, "frobenius", partitions=4)
    options: dict[str, Any] = {"budget": k, "partitions": 64, "memory_limit": 2 << 30}
    planned = plan([n], columns=64, **options)
    return _measured(1, lambda: select(proxies, **options), planned)


def growth(_: int) -> Figures:
    """GreeDi's time as n grows, in parts of 5,000, and the slope of its logarithm.

    With k in proportion to n, valuing k medoids on n examples is quadratic however the picks are found.
    """
    _compile(64, "frobenius", partitions=4)
    found: Figures = {}
    for name, share in (("k_1000", 0.0), ("k_one_percent", 0.01)):
        seconds: dict[int, float] = {}
        for n in (10_000, 31_623, 100_000, 316_228, 1_000_000):
            proxies = _one_class(_clusters(n, 64))
            start = time.perf_counter()
            select(proxies, budget=round(share * n) or 1_000, partitions=round(n / 5_000))
            seconds[n] = time.perf_counter() - start
        slope = np.polyfit(np.log([*seconds]), np.log([*seconds.values()]), 1)[0]
        found[name] = {
            "seconds": {str(n): round(taken, 3) for n, taken in seconds.items()},
            "exponent": round(float(slope), 3),
        }
    return found


def last_layer(rounds: int) -> Figures:
    """The outer products g ⊗ [h, 1] factored, and written out."""
    n, columns, width, k = 5_000, 10, 512, 500
    stream = np.random.default_rng(SEED)
    residuals = stream.dirichlet(np.full(columns, 0.3), n).astype(np.float32)
    residuals[:, 0] -= 1.0
    embeddings = np.maximum(0, stream.standard_normal((n, width), np.float32))
    labels = np.zeros(n, int)
    factored = Proxies(np.arange(n), residuals, labels, embeddings)
    inputs = np.concatenate([embeddings, np.ones((n, 1), np.float32)], axis=1)
    _compile(columns, "frobenius", width=width)
    _compile(columns, "frobenius", width=width, memory="blockwise")
    _compile(columns * (width + 1), "frobenius", memory="dense")

    def written_out() -> Any:
        outer = (residuals[:, :, None] * inputs[:, None, :]).reshape(n, -1)
        return select(Proxies(np.arange(n), outer, labels), budget=k)

    works: dict[str, Callable[[], Any]] = {
        "factored": lambda: select(factored, budget=k),
        "factored, blockwise": lambda: select(factored, budget=k, memory="blockwise"),
        "materialised": written_out,
    }
    found = {name: _measured(rounds, work, None) for name, work in works.items()}
    slow = found["materialised"]
    for name in list(works)[:2]:
        ratios = [theirs / ours for theirs, ours in zip(slow["seconds"], found[name]["seconds"], strict=True)]
        found[name]["times_as_fast"] = round(statistics.mean(ratios), 2)
        found[name]["share_of_memory"] = round(found[name]["beyond_input_gb"] / slow["beyond_input_gb"], 3)
    return found


def first_call(rounds: int) -> Figures:
    """The first selection of a user's own, in a new process with an empty cache of compiled code; then the second."""
    script = (
        "import time, numpy as np\n"
        "from selection import Proxies, select\n"
        "rows = np.random.default_rng(0).dirichlet(np.ones(10), 5000).astype('float32')\n"
        "start = time.perf_counter()\n"
        "select(Proxies(np.arange(5000), rows, np.arange(5000) % 10), budget=500)\n"
        "print(time.perf_counter() - start)\n"
    )
    seconds: dict[str, list[float]] = {"first": [], "in_the_next_process": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            for taken in seconds.values():
                environment = {**os.environ, "NUMBA_CACHE_DIR": cache, "PYTHONPATH": str(ROOT)}
                answer = subprocess.run(
                    [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
                )
                taken.append(float(answer.stdout))
    return {f"{name}_s": summary(taken, 3) for name, taken in seconds.items()}


PARTS: dict[str, Callable[[int], Figures]] = {
    "imagenet": imagenet,
    "blockwise": blockwise,
    "million": million,
    "growth": growth,
    "last_layer": last_layer,
    "first_call": first_call,
}


def _clusters(n: int, columns: int) -> Float32:
    """Normal points around 100 centres."""
    stream = np.random.default_rng(SEED)
    centres = stream.standard_normal((100, columns), np.float32)
    points = 0.3 * stream.standard_normal((n, columns), np.float32)
    for start in range(0, n, 100_000):
        own = stream.integers(0, 100, len(points[start : start + 100_000]))
        points[start : start + 100_000] += centres[own]
    return points


def _one_class(points: Float32) -> Proxies:
    return Proxies(np.arange(len(points)), points, np.zeros(len(points), int))


def _compile(columns: int, objective: Any, width: int | None = None, **options: Any) -> None:
    stream = np.random.default_rng(1)
    embeddings = None if width is None else stream.standard_normal((400, width), np.float32)
    few = Proxies(np.arange(400), stream.standard_normal((400, columns), np.float32), np.zeros(400, int), embeddings)
    select(few, budget=100, objective=objective, **options)


def _measured(rounds: int, work: Callable[[], Any], planned: Any) -> Figures:
    """Seconds of every round, and the most memory that one took beyond what was there before."""
    seconds, beyond = [], []
    for _ in range(rounds):
        before = _reset_peak()
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
        beyond.append(_status("VmHWM") - before)
    figures: Figures = {
        "seconds": [round(taken, 3) for taken in seconds],
        **{name: value for name, value in summary(seconds, 3).items() if name != "values"},
        "beyond_input_gb": round(max(beyond) / 1e9, 3),
    }
    if planned is not None:
        figures["planned_s"] = round(planned.seconds, 3)
        figures["planned_gb"] = round(planned.bytes / 1e9, 3)
        figures["time_over_plan"] = round(statistics.mean(seconds) / planned.seconds, 2)
    return figures


def _reset_peak() -> int:
    """Forget the peak so far; the memory in use now, in bytes, without what is free and only kept for later."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    sys.exit(main())
