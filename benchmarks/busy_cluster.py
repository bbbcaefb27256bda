"""Claim: on a cluster of 64 GPUs, trials of 60 s keep the GPUs busy at least 95 % of the time, once all have begun.

The cluster is simulated: a head and four nodes of 16 GPUs each, raylets on this machine that say they have them. The
sweep goes through `orchestrator.sweep.run_sweep` as every other does; only the loop is replaced, by one that sleeps,
and imports no torch: 64 processes of 100 MB rather than 64 of 500.

Counted from the moment when every GPU has begun a trial to the one when the last trial begins: what is lost in
between, from a trial's end to the next one's beginning on that GPU, is Tune's, Ray's and ours. Ramp-up is given too.

    python benchmarks/busy_cluster.py [--gpus 64] [--rounds 4] [--seconds 60]
"""

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from environment import write_result

from orchestrator.cluster import configure

configure()  # before anything imports ray

from ray import tune  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402
from strict import Strict  # noqa: E402

from orchestrator.cluster import connect, disconnect  # noqa: E402
from orchestrator.preparation import Library, Prepared, prepare  # noqa: E402
from specs import load  # noqa: E402

REACH = 0.95
NODES = 4
Span = tuple[float, float]  # a trial's beginning and end, in seconds since 1970


class Sleeper(tune.Trainable):
    """Takes a GPU for some seconds, and notes when."""

    folder = ""
    seconds = 0.0

    def setup(self, config: dict[str, Any]) -> None:
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.trial = new_config["trial"]
        return True

    def step(self) -> dict[str, Any]:
        began = time.time()
        time.sleep(self.seconds)
        note = {"span": [began, time.time()], "torch": "torch" in sys.modules, "peak_kib": _peak_kib()}
        Path(self.folder, f"{self.trial}.json").write_text(json.dumps(note))
        return {"epochs": [], tune.result.DONE: True}


def main() -> int:
    """Measure, print, write the result. Returns 1 where the GPUs are less busy than claimed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, default=64, help=f"a multiple of {NODES}")
    parser.add_argument("--rounds", type=int, default=4, help="trials for each GPU")
    parser.add_argument("--seconds", type=float, default=60.0, help="of a trial")
    parser.add_argument("--results", type=Path, help="folder of the figures, where they are not published")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="medoid-busy-") as folder:
        prepared = _sweep(folder, given.gpus * given.rounds)
        Sleeper.folder, Sleeper.seconds = folder, given.seconds
        began = time.time()
        _run(prepared, given.gpus)
        notes = [json.loads((Path(folder) / f"{trial.id}.json").read_text()) for trial in prepared.trials]
    spans = [(note["span"][0], note["span"][1]) for note in notes]
    found = {
        "gpus": given.gpus,
        "nodes": NODES,
        "trials": len(spans),
        "seconds_of_a_trial": given.seconds,
        "reach": REACH,
        **busy(spans, given.gpus),
        "from_start_to_all_busy_s": round(sorted(begin for begin, _ in spans)[given.gpus - 1] - began, 1),
        "actor_peak_mib": round(statistics.mean(note["peak_kib"] for note in notes) / 1024),
        "driver_peak_mib": round(_peak_kib() / 1024),
        "torch_in_actors": any(note["torch"] for note in notes),
        "load_average_1min": round(os.getloadavg()[0], 2),
    }
    path = write_result("busy_cluster", found, *([given.results] if given.results else []))
    print(json.dumps(found, indent=1))
    print(f"-> {path}")
    return int(found["busy"] < REACH)


def busy(spans: Sequence[Span], gpus: int) -> dict[str, float]:
    """Share of the GPUs' time that trials had, from when all were first taken to the last trial's beginning.

    And the mean seconds by which a beginning lags behind the end that made room for it.
    """
    begins, ends = sorted(begin for begin, _ in spans), sorted(end for _, end in spans)
    first, last = begins[gpus - 1], begins[-1]
    inside = sum(max(0.0, min(end, last) - max(begin, first)) for begin, end in spans)
    lags = [begin - end for begin, end in zip(begins[gpus:], ends, strict=False)]
    return {
        "busy": round(inside / (gpus * (last - first)), 4),
        "window_s": round(last - first, 1),
        "mean_lag_s": round(statistics.mean(lags), 3),
        "largest_lag_s": round(max(lags), 3),
    }


def _sweep(folder: str, trials: int) -> Prepared:
    overrides = [
        "name=busy",
        f"storage.path={folder}",
        "sweep.grid.selection.strategy=[random]",
        "sweep.grid.selection.fraction=[0.1]",
        f"seeds={list(range(trials))}",
        "resources.gpus=1",
    ]
    return prepare(load("quickstart", overrides), Library(), notify=print)


def _run(prepared: Prepared, gpus: int) -> None:
    memory = 100 * 2**20
    head = {"num_cpus": 1, "object_store_memory": memory, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(NODES):
            cluster.add_node(num_cpus=gpus // NODES, num_gpus=gpus // NODES, object_store_memory=memory)
        cluster.wait_for_nodes()
        connect(cluster.address)
        from orchestrator.sweep import run_sweep

        run_sweep(prepared, Strict(), trainable=Sleeper)
    finally:
        disconnect()
        cluster.shutdown()


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    sys.exit(main())
