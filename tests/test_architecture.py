"""Who may import whom, and what an import must not cost."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = ("boto3", "matplotlib", "mlflow", "numba", "numpy", "ray", "torch", "torchvision")


def test_imports_go_in_the_designs_direction_only() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("specs", (*HEAVY, "rich", "typer")),
        ("orchestrator.cli", HEAVY),  # `medoid validate` answers at once
        ("workers.records", HEAVY),
        ("orchestrator.tracking", ("mlflow", "ray", "torch")),  # MLflow loads on the tracker's own thread
        ("orchestrator.inline", ("mlflow", "ray")),  # runs where neither is installed
        ("orchestrator.analysis.command", ("mlflow", "ray")),
    ],
)
def test_import_does_not_pull_in(module: str, unwanted: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*(name for name in {unwanted!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
