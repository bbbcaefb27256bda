"""Chaos: sweeps of eight trials on a cluster of several nodes, while processes and nodes are killed at random.

Claim: every sweep ends, no trial is lost or counted twice, its CSVs (all but `times.csv`) equal those of an undisturbed
run byte for byte, and nothing is left behind: no process, actor, placement group or temporary file.

Each run draws one to four faults from its seed: SIGKILL of a trial's actor, a rank of its DDP trial, the selection
service's coordinator or one of its shards, a whole node (another joins), or the driver (started again), each at a
random moment of the time that an undisturbed run takes. With `--servers` results go to an S3 server and metrics to
MLflow's on PostgreSQL, which are among what is killed, come back after `--outage` seconds, and must hold every trial
once at the end. The cluster is a head without processors and two nodes of two, raylets of their own on this machine. A
run that is interrupted is drawn again; those recorded are not run again.
"""

import argparse
import json
import pickle
import random
import shutil
import signal
import sys
import time
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT))

from environment import commit, summary, write_result  # noqa: E402

from integration.chaos import KINDS, MLFLOW, S3, SPEC, Chaos, Servers, undisturbed  # noqa: E402

PATIENCE = 600.0  # seconds after which a sweep counts as one that does not end


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50, help="runs in all, those recorded before included")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no run after this time")
    parser.add_argument("--servers", action="store_true", help="keep results in S3 and metrics in MLflow's server")
    parser.add_argument("--outage", type=float, default=60.0, help="seconds that a server is away")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "chaos", help="records, and failed runs")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that its cluster ends with it
    begin = time.monotonic()
    name = f"{'servers' if options.servers else 'folder'}-{options.seed}"
    records = options.folder / name
    records.mkdir(parents=True, exist_ok=True)
    reference, span = _reference(options.folder)
    missing = [number for number in range(options.runs) if not (records / f"{number}.json").exists()]
    if missing:
        every = (*KINDS, S3, MLFLOW) if options.servers else KINDS
        with ExitStack() as stack:
            servers = None
            if options.servers:
                shutil.rmtree(options.folder / "server", ignore_errors=True)  # a run drawn again finds nothing there
                servers = stack.enter_context(Servers(options.folder / "server"))
            chaos = stack.enter_context(
                closing(Chaos(options.folder / "failed" / name, reference, servers, options.outage))
            )
            for number in missing:
                if time.monotonic() - begin > options.seconds:
                    break
                stream = random.Random(f"{options.seed} {number}")
                kinds = stream.choices(every, k=stream.randint(1, 4))
                outcome = chaos.run(number, stream, kinds, span, PATIENCE)
                record = {"run": number, "commit": commit(), **asdict(outcome)}
                (records / f"{number}.json").write_text(json.dumps(record, indent=1))
                print(number, f"{outcome.seconds:.0f} s", kinds, outcome.wrong or "as undisturbed", flush=True)
    _publish(options, records, span)


def _reference(folder: Path) -> tuple[dict[str, bytes], float]:
    """The undisturbed tables, and the seconds that they took; made once."""
    kept = folder / "undisturbed.pickle"
    if kept.exists():
        tables, span, spec = pickle.loads(kept.read_bytes())
        if spec == SPEC:
            return tables, span
    place = folder / "undisturbed"
    shutil.rmtree(place, ignore_errors=True)
    tables, span = undisturbed(place)
    kept.write_bytes(pickle.dumps((tables, span, SPEC)))
    return tables, span


def _publish(options: argparse.Namespace, records: Path, span: float) -> None:
    runs = sorted((json.loads(file.read_text()) for file in records.glob("*.json")), key=lambda run: run["run"])
    if not runs:
        return
    done = [fault for run in runs for fault in run["faults"] if fault["at"] is not None]
    for run in runs:
        del run["last_output"]
    path = write_result(
        "chaos_servers" if options.servers else "chaos",
        {
            "seed": options.seed,
            "outage": options.outage if options.servers else None,
            "n": len(runs),
            "as_undisturbed": sum(not run["wrong"] for run in runs),
            "faults": {kind: sum(fault["kind"] == kind for fault in done) for kind in (*KINDS, S3, MLFLOW)},
            "seconds_undisturbed": span,
            "seconds": summary([run["seconds"] for run in runs]),
            "spec": SPEC,
            "runs": runs,
        },
    )
    print(f"{path}: {len(runs)} runs, {len(done)} faults, {sum(bool(run['wrong']) for run in runs)} went wrong")


if __name__ == "__main__":
    main()
