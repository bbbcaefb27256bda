"""Claims: a sweep of 1,000 tiny trials on 2 cores costs at most 1 s a trial beyond its own loop, in a driver whose
memory is bounded; after a kill it goes on within 30 s, and its report takes at most 20 s.

`medoid run` of 10 learning rates x 4 strategies x 25 seeds, an MLP on 100 digits for 2 epochs, one core a trial. The
driver is killed (SIGKILL) when half of the trials are finished, and started again; what its actors finish between
the two is counted on its own. Measured:

    overhead    cores x (time from the first trial's end to the last one's) / trials, less the mean of their loops,
                in each of the two runs
    memory      the driver's peak, and its growth from the 100th finished trial to the last (its own process alone)
    processor   the driver's own time, Tune's loop and MLflow's writer both, for each trial
    going on    from the second start to the first trial that ends
    again       the same command once all are finished: it runs nothing, and writes the report
    report      `medoid report`, a process of its own

    python benchmarks/many_trials.py [--trials 1000]
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from environment import ROOT, write_result

from workers.records import TrialTimes

RATES, STRATEGIES = 10, ("none", "random", "max_loss", "coreset")
LIMITS = {"overhead_s": 1.0, "going_on_s": 30.0, "report_s": 20.0}
POLL_S = 0.2


def main() -> int:
    """Measure, print, write the result. Returns 1 where something is over its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000, help="a multiple of 40")
    parser.add_argument("--results", type=Path, help="folder of the figures, where they are not published")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="medoid-many-") as folder:
        sweep = Sweep(Path(folder), given.trials)
        half = sweep.run(kill_at=given.trials // 2)
        rest = sweep.run()
        again = sweep.timed("run", *sweep.spec)
        report = sweep.timed("report", "many", "--storage", folder)
        found = {
            "trials": given.trials,
            "cores": sweep.cores,
            "limits": LIMITS,
            "to_the_kill": sweep.figures(half),
            "after_it": sweep.figures(rest),
            "between": rest.before - half.seen[-1][1],
            "going_on_s": round(rest.seen[0][0] - rest.start, 1),
            "again_s": round(again, 1),
            "report_s": round(report, 1),
            "load_average_1min": round(os.getloadavg()[0], 2),
        }
    overhead = statistics.mean(found[part]["overhead_s"] for part in ("to_the_kill", "after_it"))
    measured = {"overhead_s": overhead, "going_on_s": found["going_on_s"], "report_s": found["report_s"]}
    for name, value in measured.items():
        print(f"{name}: {value:.2f} (limit {LIMITS[name]:g})")
    for part in ("to_the_kill", "after_it"):
        print(f"{part}: {found[part]}")
    path = write_result("many_trials", found, *([given.results] if given.results else []))
    print(f"-> {path}")
    return int(any(value > LIMITS[name] for name, value in measured.items()))


@dataclass
class Run:
    """What was seen of one `medoid run`.

    start and seconds on one clock; seen: (second, trials finished); driver: (trials finished, bytes that its process
    has, seconds of processor time that it took).
    """

    start: float
    seen: list[tuple[float, int]] = field(default_factory=list)
    driver: list[tuple[int, int, float]] = field(default_factory=list)
    before: int = 0
    wall: float = 0.0


class Sweep:
    """One sweep in a folder, run by the command line."""

    def __init__(self, folder: Path, trials: int):
        self.folder, self.trials = folder, trials
        self.cores = len(os.sched_getaffinity(0))
        rates = [round(0.01 * (place + 1), 2) for place in range(RATES)]
        grid = f"{{training.optimizer.learning_rate: {rates}, selection.strategy: [{', '.join(STRATEGIES)}]}}"
        overrides = [
            "name=many",
            f"storage.path={folder}",
            "dataset.train_per_class=10",
            "model={name: mlp, width: 8}",
            "training.regime=subset",
            "training.epochs=2",
            f"sweep.grid={grid}",
            "selection.fraction=0.2",
            f"seeds={list(range(trials // (RATES * len(STRATEGIES))))}",
        ]
        self.spec = ["quickstart", *(part for override in overrides for part in ("--set", override))]

    def run(self, kill_at: int | None = None) -> Run:
        """Run or go on; killed once that many trials are finished."""
        found = Run(time.monotonic(), before=self.finished())
        with open(self.folder / "output.txt", "a") as output:
            process = subprocess.Popen(self._command("run", *self.spec), stdout=output, stderr=output, cwd=ROOT)
        while process.poll() is None:
            done = self.finished()
            if done > found.before and (not found.seen or done > found.seen[-1][1]):
                found.seen.append((time.monotonic(), done))
            if (taken := _taken(process.pid)) is not None:
                found.driver.append((done, *taken))
            if kill_at is not None and done >= kill_at:
                process.kill()
            time.sleep(POLL_S)
        found.wall = time.monotonic() - found.start
        if process.returncode != (0 if kill_at is None else -signal.SIGKILL):
            said = (self.folder / "output.txt").read_text()[-3000:]
            raise RuntimeError(f"medoid run ended with {process.returncode} after {self.finished()} trials:\n{said}")
        return found

    def timed(self, *arguments: str) -> float:
        """Seconds of a command that runs no trial."""
        start = time.monotonic()
        ran = subprocess.run(self._command(*arguments), capture_output=True, text=True, cwd=ROOT, check=False)
        if ran.returncode or "starting Ray" in ran.stdout:
            raise RuntimeError(ran.stdout[-3000:] + ran.stderr[-3000:])
        return time.monotonic() - start

    def finished(self) -> int:
        """How many trials have a result."""
        return sum(1 for _ in (self.folder / "many" / "trials").glob("*/result.json"))

    def figures(self, run: Run) -> dict[str, Any]:
        """Of the trials that ended in a run, but for the first: it pays for the actors."""
        (first, one), (last, all_of_them) = run.seen[0], run.seen[-1]
        ended = all_of_them - one
        loops = [_loop(path) for path in (self.folder / "many" / "trials").glob("*/times.json")]
        loop = statistics.mean(loops)
        late = [one for one in run.driver if one[0] - run.before >= min(100, ended // 2)]
        return {
            "trials": all_of_them - run.before,
            "wall_s": round(run.wall, 1),
            "overhead_s": round(self.cores * (last - first) / ended - loop, 3),
            "mean_loop_s": round(loop, 3),
            "driver_peak_mib": round(max(memory for _, memory, _ in run.driver) / 2**20),
            "driver_growth_mib": round((max(memory for _, memory, _ in late) - late[0][1]) / 2**20),
            "driver_cpu_s_a_trial": round((late[-1][2] - late[0][2]) / max(1, late[-1][0] - late[0][0]), 4),
        }

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "orchestrator.cli", *arguments]


def _loop(path: Path) -> float:
    times = TrialTimes.model_validate_json(path.read_bytes())
    return sum(epoch.training_time + epoch.evaluation for epoch in times.epochs)


def _taken(pid: int) -> tuple[int, float] | None:
    """Resident bytes and seconds of processor time of a process; None once it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    ticks, pages = int(fields[11]) + int(fields[12]), int(fields[21])
    return pages * os.sysconf("SC_PAGE_SIZE"), ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
