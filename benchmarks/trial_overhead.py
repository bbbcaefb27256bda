"""Claim: a trial in a warm actor takes at most one second more than its own loop.

A sweep of small trials runs one at a time in one reused Tune actor. From the end of one trial to the end of the next
is what a trial takes in all; its own loop is the sum of its epochs' times. The first trial pays for starting the
actor and is left out.

    python benchmarks/trial_overhead.py
"""

import argparse
import statistics
import sys
import tempfile
import time

from environment import ROOT, write_result

from orchestrator.cluster import configure

configure()  # before anything imports ray

from strict import Strict  # noqa: E402

from orchestrator.cluster import connect, disconnect  # noqa: E402
from orchestrator.preparation import Library, PlannedTrial, prepare, write_sweep  # noqa: E402
from specs import load  # noqa: E402
from workers.records import TrialTimes, load_record  # noqa: E402
from workers.records import trial_key as key  # noqa: E402

LIMIT_S = 1.0
TRIALS = 13


class Stopwatch(Strict):
    """Notes when each trial ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: list[tuple[str, float]] = []

    def finished(self, trial: PlannedTrial) -> None:
        self.ended.append((trial.id, time.perf_counter()))


def main() -> int:
    """Measure, print, write the result. Returns 1 where the mean is over the limit."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    watch = Stopwatch()
    overheads, loops = [], []
    with tempfile.TemporaryDirectory(prefix="medoid-overhead-") as folder:
        overrides = [
            f"storage.path={folder}",
            "sweep.grid={selection.strategy: [coreset]}",
            "selection.fraction=0.1",
            f"seeds={list(range(TRIALS))}",
            "resources.cpus=2",  # one trial at a time on two cores
            "training.epochs=10",
        ]
        prepared = prepare(load("quickstart", overrides), Library(), notify=print)
        write_sweep(prepared)
        connect(None)
        from orchestrator.sweep import run_sweep

        try:
            run_sweep(prepared, watch)
        finally:
            disconnect()
        for (_, before), (trial, after) in zip(watch.ended, watch.ended[1:], strict=False):
            times = load_record(prepared.storage, key(trial, "times.json"), TrialTimes)
            assert times is not None
            loop = sum(epoch.training_time + epoch.evaluation for epoch in times.epochs)
            loops.append(loop)
            overheads.append(after - before - loop)
    mean, deviation = statistics.mean(overheads), statistics.stdev(overheads)
    path = write_result(
        "trial_overhead",
        {
            "limit_s": LIMIT_S,
            "warm_trials": len(overheads),
            "mean_overhead_s": round(mean, 3),
            "std_overhead_s": round(deviation, 3),
            "max_overhead_s": round(max(overheads), 3),
            "mean_loop_s": round(statistics.mean(loops), 3),
            "seeds": list(range(TRIALS)),
        },
    )
    print(
        f"overhead of a warm trial: {mean:.3f} ± {deviation:.3f} s over a loop of {statistics.mean(loops):.2f} s "
        f"(n = {len(overheads)}, limit {LIMIT_S} s) -> {path.relative_to(ROOT)}"
    )
    return int(mean > LIMIT_S)


if __name__ == "__main__":
    sys.exit(main())
