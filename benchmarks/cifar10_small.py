"""Shows: the five strategies on CIFAR-10 in small (specs/library/cifar10_small.yaml), three seeds.

Runs the sweep, or goes on with it, and keeps its table; `--stored` only keeps the table of what is finished.

    tar -xJf ../shared/data/cifar10-jpeg.tar.xz -C data/cifar10
    python benchmarks/cifar10_small.py --root data/cifar10 [--storage runs] [--stored]
"""

import argparse
import csv
import io
import subprocess
import sys
from pathlib import Path

from environment import RESULTS, ROOT, write_result

NAME = "cifar10_small"


def main() -> int:
    """Run, print, write the result; returns the exit code of the run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder with train/<class>/* and test/<class>/*")
    parser.add_argument("--storage", default="runs")
    parser.add_argument("--stored", action="store_true")
    arguments = parser.parse_args()
    medoid = str(Path(sys.executable).with_name("medoid"))
    if arguments.stored:
        command = [medoid, "report", NAME, "--storage", arguments.storage]
    else:
        command = [medoid, "run", NAME, "--set", f"dataset.root={arguments.root}"]
        command += ["--set", f"storage.path={arguments.storage}"]
    code = subprocess.run(command, check=False).returncode
    report = Path(arguments.storage) / NAME / "report"
    table = list(csv.DictReader(io.StringIO((report / "table.csv").read_text())))
    (RESULTS / f"{NAME}.md").write_text((report / "table.md").read_text())
    path = write_result(NAME, {"spec": f"specs/library/{NAME}.yaml", "table": table})
    print(f"-> {path.relative_to(ROOT)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
