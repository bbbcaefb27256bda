"""Claim: 1,000 runs of 200 epochs are logged to MLflow on PostgreSQL without slowing training.

All parts are real: MLflow's server on a PostgreSQL that waits for its disk, and the tracker that `medoid run` uses.
First training's pace: 64 trials at once, each with an epoch a second, faster than any network here trains. Then the
worst case: all that is left is told at once, as by trials that take no time. What training waits for is the time of
a call; the writer's thread works at the same time. At the end PostgreSQL itself is asked whether every metric of
every epoch is there once.

    python benchmarks/tracking_scale.py [--runs 1000] [--epochs 200]
"""

import argparse
import os
import resource
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from environment import ROOT, write_result

sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT))

import numpy as np
import psycopg

from orchestrator.tracking import Tracker
from servers.mlflow_server import MlflowServer
from servers.postgres import Postgres
from specs import TrialSpec, cell_hash, spec_hash, trial_id
from specs.resources import Tracking
from workers.records import (
    DataRecord,
    EpochRecord,
    EpochTimes,
    SweepRecord,
    TrialEntry,
    TrialResult,
    TrialTimes,
)
from workers.storage import LocalStorage

CALL_LIMIT_MS = 10.0  # of the slowest percent of calls, in milliseconds: a thousandth of an epoch of ten seconds
AT_ONCE, PACE = 64, 1.0  # trials, epochs a second of each
DRAIN_LIMIT_S = 3600.0


@dataclass(frozen=True)
class Run:
    """A trial of the sweep that is logged."""

    entry: TrialEntry
    spec: TrialSpec
    label: str


@dataclass
class Watch:
    """The time of every call, in seconds, and how much waited."""

    calls: list[float] = field(default_factory=list)
    longest_queue: int = 0

    def __call__(self, tracker: Tracker, what: Any, *values: Any) -> None:
        started = time.perf_counter()
        what(*values)
        self.calls.append(time.perf_counter() - started)
        self.longest_queue = max(self.longest_queue, tracker.pending)

    def figures(self) -> dict[str, float]:
        """Percentiles of a call, in milliseconds."""
        p50, p99, longest = np.percentile(np.array(self.calls) * 1e3, [50, 99, 100])
        return {
            "calls": len(self.calls),
            "p50_ms": round(float(p50), 3),
            "p99_ms": round(float(p99), 3),
            "max_ms": round(float(longest), 1),
        }


class Memory:
    """The most memory that this process has held while the context lasts, in MiB above what it held before."""

    def __enter__(self) -> "Memory":
        self.before = self.most = _resident_mib()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._over.wait(0.2):
            self.most = max(self.most, _resident_mib())

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def main() -> int:
    """Measure, print, write the result. Returns 1 where calls are slow, or a metric is missing or there twice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--results", type=Path, help="folder of the figures, where they are not published")
    wanted = parser.parse_args()
    runs = [_run(seed, wanted.epochs) for seed in range(wanted.runs)]
    with (
        tempfile.TemporaryDirectory(prefix="medoid-tracking-") as home,
        Postgres(durable=True) as database,
        MlflowServer(database, workers=2) as server,
    ):
        figures = _measure(Path(home), server.uri, runs, wanted.epochs)
        figures |= _counted(database, wanted.runs, wanted.epochs)
    figures["load_average"] = [round(load, 1) for load in os.getloadavg()]  # two, of this benchmark alone
    good = figures["complete"] and figures["worst_case"]["p99_ms"] <= CALL_LIMIT_MS
    path = write_result(
        "tracking_scale",
        {"limit_p99_ms": CALL_LIMIT_MS, "runs": wanted.runs, "epochs": wanted.epochs, **figures},
        *([wanted.results] if wanted.results else []),
    )
    print(
        f"{wanted.runs} runs of {wanted.epochs} epochs: a call takes {figures['worst_case']['p50_ms']:.2f} ms "
        f"(99 %: {figures['worst_case']['p99_ms']:.2f} ms), the writer sends {figures['metrics_per_s']:.0f} metrics "
        f"a second, memory grows by {figures['memory_mib']:.0f} MiB -> {path}"
    )
    return int(not good)


def _measure(home: Path, uri: str, runs: list[Run], epochs: int) -> dict[str, Any]:
    sweep = SweepRecord(name="scale", description="", spec={}, trials=tuple(run.entry for run in runs))
    started = time.perf_counter()
    tracker = Tracker(LocalStorage(home), Tracking(uri=uri), sweep, runs)
    paced, worst = Watch(), Watch()
    with Memory() as memory, tracker:
        at_once = min(AT_ONCE, len(runs) // 2)
        first, rest = runs[:at_once], runs[at_once:]
        paced_s = _paced(tracker, first, epochs, paced)
        lag = _drain(tracker)
        flooded = time.perf_counter()
        for run in rest:
            worst(tracker, tracker.trial_started, run.entry.id)
            for number in range(1, epochs + 1):
                worst(tracker, tracker.epoch, run.entry.id, _epoch(number), _times(number))
            worst(tracker, tracker.trial_finished, *_finished(run, epochs))
        told_s = time.perf_counter() - flooded
        journal_mib = (home / "tracking" / "spool.jsonl").stat().st_size / 2**20
        tracker.sweep_finished()
        left = tracker.pending
        drained_s = _drain(tracker)
        sending_s = time.perf_counter() - flooded
        unsent = tracker.close()
    per_epoch = len(_values(1))
    return {
        "training_pace": {**paced.figures(), "seconds": round(paced_s, 1), "longest_queue": paced.longest_queue},
        "lag_after_training_pace_s": round(lag, 1),
        "worst_case": {**worst.figures(), "seconds": round(told_s, 1), "backlog_entries": left},
        "drain_s": round(drained_s, 1),
        "metrics_per_epoch": per_epoch,
        "metrics_per_s": round(len(rest) * epochs * per_epoch / sending_s),
        "runs_per_s": round(len(rest) / sending_s, 2),
        "journal_mib": round(journal_mib, 1),
        "memory_mib": round(memory.most - memory.before, 1),
        "unsent": unsent,
        "seconds": round(time.perf_counter() - started, 1),
    }


def _paced(tracker: Tracker, runs: list[Run], epochs: int, watch: Watch) -> float:
    """Trials side by side, an epoch each in turn, at training's pace."""
    started = time.perf_counter()
    for run in runs:
        watch(tracker, tracker.trial_started, run.entry.id)
    for number in range(1, epochs + 1):
        for place, run in enumerate(runs):
            due = started + (number - 1 + place / len(runs)) / PACE
            time.sleep(max(0.0, due - time.perf_counter()))
            watch(tracker, tracker.epoch, run.entry.id, _epoch(number), _times(number))
    for run in runs:
        watch(tracker, tracker.trial_finished, *_finished(run, epochs))
    return time.perf_counter() - started


def _drain(tracker: Tracker) -> float:
    started = time.perf_counter()
    while tracker.pending:
        if time.perf_counter() - started > DRAIN_LIMIT_S:
            raise RuntimeError(f"{tracker.pending} entries are not sent after {DRAIN_LIMIT_S:.0f} s")
        time.sleep(0.05)
    return time.perf_counter() - started


def _counted(database: Postgres, runs: int, epochs: int) -> dict[str, Any]:
    """What PostgreSQL holds, and whether that is everything, once."""
    ask = "SELECT count(*), count(DISTINCT (run_uuid, key, step)) FROM metrics"
    with psycopg.connect(database.uri) as connection:
        rows, distinct = connection.execute(ask).fetchone() or (0, 0)
        (finished,) = connection.execute("SELECT count(*) FROM runs WHERE status = 'FINISHED'").fetchone() or (0,)
    expected = runs * epochs * len(_values(1))
    return {"rows": rows, "complete": (rows, distinct, finished) == (expected, expected, runs + 1)}


def _run(seed: int, epochs: int) -> Run:
    spec = TrialSpec.model_validate(
        {
            "seed": seed,
            "dataset": {"name": "digits"},
            "model": {"name": "small_cnn"},
            "augmentation": {"strong": ["random_flip"]},
            "training": {"regime": "subset", "epochs": epochs},
            "selection": {"strategy": "coreset", "fraction": 0.1},
        }
    )
    entry = TrialEntry(
        id=trial_id(spec, "data"),
        spec_hash=spec_hash(spec),
        cell_hash=cell_hash(spec),
        strategy="coreset",
        size="10%",
        seed=seed,
        point={},
    )
    return Run(entry, spec, f"coreset 10% seed {seed}")


def _epoch(number: int) -> EpochRecord:
    return EpochRecord(
        epoch=number,
        train_loss=1 / number,
        learning_rate=0.1,
        views=1000,
        augmented=500,
        test_accuracy=0.5,
        test_loss=1.5 / number,
    )


def _times(number: int) -> EpochTimes:
    spent = dict.fromkeys(("train", "augmentation", "proxies", "selection", "stall", "evaluation"), 0.1)
    return EpochTimes(epoch=number, finished_at=1_700_000_000.0 + number, **spent)


def _values(number: int) -> dict[str, float]:
    from orchestrator.tracked import epoch_point

    return epoch_point(_epoch(number), _times(number)).values


def _finished(run: Run, epochs: int) -> tuple[TrialResult, TrialTimes]:
    numbers = range(1, epochs + 1)
    result = TrialResult(
        trial_id=run.entry.id,
        spec_hash=run.entry.spec_hash,
        cell_hash=run.entry.cell_hash,
        spec=run.spec,
        data=DataRecord(fingerprint="data", train=1437, test=360, classes=("0", "1"), image_shape=(8, 8, 1)),
        test_accuracy=0.5,
        epochs=tuple(_epoch(number) for number in numbers),
        selections=(),
    )
    times = TrialTimes(
        trial_id=run.entry.id,
        host="node",
        hardware="cores",
        versions={},
        commit="",
        concurrent=True,
        epochs=tuple(_times(number) for number in numbers),
    )
    return result, times


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


if __name__ == "__main__":
    sys.exit(main())
