"""Runs tiny sweeps through the real command line, and finds and kills their processes."""

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

SPEC = """
name: tiny
dataset: {name: digits, label_noise: 0.3, train_per_class: 40}
model: {name: small_cnn, width: 4}
augmentation:
  weak: [{name: random_crop, padding: 1}]
  strong: [{name: randaugment, num_ops: 1, magnitude: 5}]
training: {regime: subset, epochs: 12, batch_size: 16, optimizer: {learning_rate: 0.05}}
selection: {fraction: 0.25, every: 2}
checkpoints: {every: 2}
sweep: {grid: {selection.strategy: [none, random, max_loss, coreset]}}
"""
WORKING = r"^ray::(ResourceTrainable|TrialActor|SelectionShard)|orchestrator\.cli|raylet "
REPEATABLE = ("table.csv", "trials.csv", "curves.csv", "selections.csv")


def heed_ctrl_c() -> None:
    """Background jobs of a shell are started with SIGINT ignored, and hand that down; a terminal's are not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Sweep:
    """A sweep in a folder of its own. Its processes carry a tag in their environment, so that they can be found."""

    def __init__(self, folder: Path, spec: str = SPEC):
        self.folder = folder
        self.tag = uuid.uuid4().hex
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tiny.yaml").write_text(spec)

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Start `medoid run`."""
        command = [sys.executable, "-m", "orchestrator.cli", "run", "tiny.yaml", *options]
        environment = os.environ | {"MEDOID_TEST_TAG": self.tag, "PYTHONUNBUFFERED": "1", "COLUMNS": "150"}
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=heed_ctrl_c,
        )

    def run(self, *options: str) -> str:
        """Run it to its end, which must be a good one; returns what it printed."""
        process = self.start(*options)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        return output

    def tables(self, name: str = "tiny") -> dict[str, bytes]:
        """The CSV files that must not depend on what happened on the way."""
        folder = self.folder / "runs" / name / "report"
        return {file: (folder / file).read_bytes() for file in REPEATABLE}

    def trials(self, name: str = "tiny") -> Path:
        return self.folder / "runs" / name / "trials"

    def processes(self, title: str = "") -> list[int]:
        """Living processes of this sweep whose command line matches a pattern."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                ours = f"MEDOID_TEST_TAG={self.tag}".encode() in (entry / "environ").read_bytes()
                alive = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
            except (OSError, UnicodeDecodeError):
                continue  # it has ended meanwhile
            if ours and alive and re.search(title, command):
                found.append(int(entry.name))
        return found

    def kill(self, title: str, patience: float = 120.0) -> int:
        """SIGKILL a process of this sweep as soon as there is one of this title."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            found = self.processes(title)
            if found:
                os.kill(found[0], signal.SIGKILL)
                return found[0]
            time.sleep(0.02)
        raise AssertionError(f"no process with title {title!r} within {patience} s")

    def wait_until_gone(self, patience: float = 120.0, title: str = WORKING) -> None:
        """Wait for all that computes or writes to end by itself (Ray's own agents may take a minute more)."""
        deadline = time.monotonic() + patience
        while found := self.processes(title):
            assert time.monotonic() < deadline, f"still there: {found}"
            time.sleep(0.2)

    def wait_for(self, pattern: str, patience: float = 240.0) -> None:
        """Wait for a file in the sweep's folder."""
        deadline = time.monotonic() + patience
        while not any(self.folder.glob(f"runs/tiny/{pattern}")):
            assert time.monotonic() < deadline, f"no {pattern} within {patience} s"
            time.sleep(0.02)
