"""Whoever asks a script what it claims does not start it."""

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SCRIPTS = [path for path in sorted(BENCHMARKS.glob("*.py")) if "__main__" in path.read_text()]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_reads_its_arguments(path: Path) -> None:
    assert any(way in path.read_text() for way in ("ArgumentParser(", "run_and_keep(")), "--help would run it"
