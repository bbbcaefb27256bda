"""Runs a script of benchmarks/ as its user does, on a machine that lacks some packages."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
_WITHOUT = """
import runpy, sys, traceback

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
sys.argv = {argv!r}
sys.path[0] = {folder!r}
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except Exception:
    traceback.print_exc()
    sys.exit(70)
"""


def run_script(name: str, *arguments: object, absent: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """The finished process of `python benchmarks/<name> …`, where importing the packages in `absent` fails.

    It ends with 1 where a figure is over its limit, as on its user's machine, but with 70 where an error stopped it.
    """
    argv = [str(BENCHMARKS / name), *map(str, arguments)]
    code = _WITHOUT.format(absent=tuple(absent), argv=argv, folder=str(BENCHMARKS))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
