"""Runs a sweep of the library, or goes on with it, and keeps its table with the machine it ran on."""

import argparse
import csv
import io
import subprocess
import sys
import time
from pathlib import Path

from environment import RESULTS, ROOT, write_result


def run_and_keep(name: str, claim: str | None) -> int:
    """Run library spec `name` as the command line says, and write `results/<name>.json` and `.md`.

    `claim` is the script's docstring, shown by --help. Returns the exit code of `medoid`.
    """
    parser = argparse.ArgumentParser(description=claim, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder with train/<class>/* and test/<class>/*")
    parser.add_argument("--storage", default="runs")
    parser.add_argument("--stored", action="store_true", help="only keep the table of what is finished")
    parser.add_argument("--variant", default=name, help="another name for a sweep that --set makes another")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="as in `medoid run`")
    arguments = parser.parse_args()
    medoid, variant = str(Path(sys.executable).with_name("medoid")), arguments.variant
    if arguments.stored:
        command = [medoid, "report", variant, "--storage", arguments.storage]
    else:
        fields = [f"dataset.root={arguments.root}", f"storage.path={arguments.storage}", f"name={variant}"]
        command = [medoid, "run", name, *(part for field in [*fields, *arguments.set] for part in ("--set", field))]
    folder = Path(arguments.storage) / variant
    whole, start = not folder.exists() and not arguments.stored, time.monotonic()
    code = subprocess.run(command, check=False).returncode
    minutes = round((time.monotonic() - start) / 60, 1) if whole and not code else None  # of all trials in one go
    report = folder / "report"
    table = list(csv.DictReader(io.StringIO((report / "table.csv").read_text())))
    (RESULTS / f"{variant}.md").write_text((report / "table.md").read_text())
    result = {"spec": f"specs/library/{name}.yaml", "set": arguments.set, "minutes": minutes, "table": table}
    path = write_result(variant, result)
    print(f"-> {path.relative_to(ROOT)}")
    return code
