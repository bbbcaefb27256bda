"""Claim: once installed, the quick start takes at most 180 s, and running it again at most 20 s, with no trial run.

`medoid run quickstart` in a fresh folder, then the same again there. The table it ends with is kept too.

    python benchmarks/quickstart.py [--runs 3]
"""

import argparse
import csv
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from environment import ROOT, write_result

FIRST_LIMIT_S, AGAIN_LIMIT_S = 180.0, 20.0


def main() -> int:
    """Measure, print, write the result. Returns 1 where a mean is over its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    first, again, table = [], [], ""
    for _ in range(runs):
        with tempfile.TemporaryDirectory(prefix="medoid-quickstart-") as folder:
            seconds, output = _run(folder)
            first.append(seconds)
            seconds, output = _run(folder)
            again.append(seconds)
            if "27 already finished" not in output or "starting Ray" in output:
                raise RuntimeError(f"the second run was not one of finished trials:\n{output}")
            table = (Path(folder) / "runs/quickstart/report/table.csv").read_text()
            print(f"first {first[-1]:.1f} s, again {again[-1]:.1f} s", flush=True)
    path = write_result(
        "quickstart",
        {
            "runs": runs,
            "first": {"limit_s": FIRST_LIMIT_S, **_summary(first)},
            "again": {"limit_s": AGAIN_LIMIT_S, **_summary(again)},
            "table": list(csv.DictReader(io.StringIO(table))),
            "load_average_1min": round(os.getloadavg()[0], 2),
        },
    )
    print(f"-> {path.relative_to(ROOT)}")
    return int(statistics.mean(first) > FIRST_LIMIT_S or statistics.mean(again) > AGAIN_LIMIT_S)


def _run(folder: str) -> tuple[float, str]:
    command = [str(Path(sys.executable).with_name("medoid")), "run", "quickstart"]
    start = time.perf_counter()
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if ran.returncode != 0:
        raise RuntimeError(ran.stdout + ran.stderr)
    return seconds, ran.stdout


def _summary(seconds: list[float]) -> dict[str, object]:
    deviation = statistics.stdev(seconds) if len(seconds) > 1 else None
    return {
        "mean_s": round(statistics.mean(seconds), 2),
        "std_s": deviation and round(deviation, 2),
        "seconds": [round(value, 2) for value in seconds],
    }


if __name__ == "__main__":
    sys.exit(main())
