"""Temporary folders: what a killed process leaves is removed by the next, what a living one uses is not."""

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from workers.scratch import scratch

HOLD = """
from workers.scratch import scratch
with scratch("test") as folder:
    print(folder, flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_a_folder_ends_with_its_context(temporary: Path) -> None:
    with scratch("test") as folder:
        Path(folder, "file").write_text("kept")
    assert not list(temporary.iterdir())


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_holds_is_not() -> None:
    holding = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holding.stdout is not None
    theirs = Path(holding.stdout.readline().strip())
    with scratch("test"):
        assert theirs.is_dir()
    holding.send_signal(signal.SIGKILL)
    holding.communicate()
    with scratch("other"):
        assert theirs.is_dir()
    with scratch("test"):
        assert not theirs.exists()


def test_threads_do_not_remove_each_others() -> None:
    def use(number: int) -> str:
        with scratch("test") as folder:
            Path(folder, "file").write_text(str(number))
            return Path(folder, "file").read_text()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(use, range(200))) == [str(number) for number in range(200)]


def test_processes_that_begin_at_once_do_not_remove_each_others() -> None:
    code = """
from pathlib import Path
from workers.scratch import scratch
for _ in range(300):
    with scratch("test") as folder:
        Path(folder, "file").write_text("theirs")
"""
    begun = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate()[1] for process in begun] == [""] * 4
