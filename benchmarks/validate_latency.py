"""Claim: `medoid validate quickstart` answers in at most half a second, start of the process included.

Wall-clock of the console script in fresh processes: two to warm the disk's cache, then twenty that count.

    python benchmarks/validate_latency.py
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from environment import ROOT, write_result

LIMIT_S = 0.5
WARM_UPS = 2
RUNS = 20


def main() -> int:
    """Measure, print one line, write the result. Returns 1 where the mean is over the limit."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    command = [str(Path(sys.executable).with_name("medoid")), "validate", "quickstart"]
    seconds = [_run(command) for _ in range(WARM_UPS + RUNS)][WARM_UPS:]
    mean, deviation, slowest = statistics.mean(seconds), statistics.stdev(seconds), max(seconds)
    path = write_result(
        "validate_latency",
        {
            "command": "medoid validate quickstart",
            "limit_s": LIMIT_S,
            "runs": RUNS,
            "warm_ups": WARM_UPS,
            "mean_s": round(mean, 4),
            "std_s": round(deviation, 4),
            "max_s": round(slowest, 4),
            "seconds": [round(value, 4) for value in seconds],
            "load_average_1min": round(os.getloadavg()[0], 2),
        },
    )
    print(
        f"medoid validate quickstart: {mean:.3f} ± {deviation:.3f} s, slowest {slowest:.3f} s "
        f"(n = {RUNS}, limit {LIMIT_S} s) -> {path.relative_to(ROOT)}"
    )
    return 0 if mean <= LIMIT_S else 1


def _run(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
