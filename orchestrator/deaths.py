"""What is known of a trial that Tune gave up: what it raised, or of what its process died, and the end of its log."""

import logging
import re
from pathlib import Path

import ray
from ray import cloudpickle
from ray.exceptions import RayTaskError
from ray.tune.experiment import Trial as TuneTrial
from ray.util.state import get_log

from workers.records import TrialError

log = logging.getLogger(__name__)
_LINES = 30
_SECONDS = 10  # for a log that lies on another machine


def given_up(trial_id: str, epoch: int, trial: TuneTrial) -> TrialError:
    """Why a trial was given up after it came to an epoch, and how many times it was tried."""
    times, trace = trial.num_failures, _last_trace(trial)
    again = f"(tried {times} times)" if times > 1 else "(tried once)"
    pid, address = _process(trace)
    tail = _log_tail(pid, address) if pid and address else ""
    if tail:
        trace = f"{trace}\n\nThe end of its log (process {pid} on {address}):\n{tail}"
    return TrialError(trial_id=trial_id, error=f"{last_said(trial)} {again}", trace=trace, epoch=epoch)


def last_said(trial: TuneTrial) -> str:
    """What a trial raised the last time, or of what its process died, in one line."""
    error = _last_error(trial)
    if isinstance(error, RayTaskError):
        return f"{type(error.cause).__name__}: {error.cause}".splitlines()[0]
    lines = _last_trace(trial).splitlines()
    if lines[0].startswith("Traceback"):  # Tune keeps no more of what it cannot unpickle
        return lines[-1]
    return f"the trial's process died, last of: {lines[0]}"


def _last_error(trial: TuneTrial) -> Exception | None:
    """What Tune keeps of the last time, where it writes it first: its own getters look where it is copied later."""
    kept = _read(trial.pickled_error_file)
    error: Exception | None = cloudpickle.loads(kept) if kept else None
    return error


def _last_trace(trial: TuneTrial) -> str:
    """The text of the last time; the error that was pickled has lost its own."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", _read(trial.error_file).decode(errors="replace"))
    return text.rpartition("Failure # ")[2].partition("\n")[2].strip() or "no more is known"


def _read(file: str | None) -> bytes:
    return Path(file).read_bytes() if file and Path(file).exists() else b""


def _process(text: str) -> tuple[int | None, str | None]:
    """Process and address, which Ray's messages name; of several workers, those of the one that raised."""
    if worker := re.search(r"\bRank \d+ was process (\d+) on (\S+):", text):
        return int(worker[1]), worker[2]
    pid, address = re.search(r"\bpid[:=] ?(\d+)", text), re.search(r"\bip[:=] ?([^\s,)]+)", text)
    return int(pid[1]) if pid else None, address[1] if address else None


def _log_tail(pid: int, address: str) -> str:
    """The last lines that a process wrote to its standard error; empty where they cannot be had."""
    if address == ray.util.get_node_ip_address():
        logs = Path(ray._private.worker.global_worker.node.get_logs_dir_path())
        for file in logs.glob(f"worker-*-{pid}.err"):
            return "\n".join(file.read_text(errors="replace").splitlines()[-_LINES:])
        return ""
    try:
        cluster = ray.get_runtime_context().gcs_address
        found = get_log(cluster, node_ip=address, pid=pid, tail=_LINES, suffix="err", timeout=_SECONDS)
        lines = "".join(found)
    except Exception as error:  # noqa: BLE001 - its node may be gone with it; the trial's error is what counts
        log.info("no log of process %s on %s: %s", pid, address, error)
        return ""
    return lines
