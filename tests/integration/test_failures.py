"""Trials that fail whenever they are tried, a disk that fills up, a node that joins: what a sweep makes of them."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from signal import SIGKILL

import pytest
from mlflow import MlflowClient

from integration.sweeps import SPEC, Sweep
from servers.ray_cluster import Node, RayCluster, command_line
from servers.small_disk import read_only, small_disk
from small_images import write_images

SOURCE = {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
CHECKPOINTS = "runs/tiny/trials/*/checkpoints/*.ckpt"
TRIAL = r"^ray::(ResourceTrainable|TrialActor)"
LONG_AND_SHORT = (
    SPEC.replace(
        "grid: {selection.strategy: [none, random, max_loss, coreset]}",
        "zip: {training.epochs: [4000, 4], resources.max_failures: [1, 9]}",
    )
    + "resources: {cpus: 2}\n"
)


def failures(sweep: Sweep) -> list[dict[str, str]]:
    return [json.loads(path.read_text()) for path in sweep.trials().glob("*/error.json")]


def reached(sweep: Sweep) -> int:
    """The last epoch that any trial stored."""
    return max((int(path.stem) for path in sweep.trials().glob("*/checkpoints/*.ckpt")), default=0)


def kill_the_long_one(sweep: Sweep, after: int) -> int:
    """Once it has come further than this epoch, which the short one never does: only one of them runs at a time."""
    deadline = time.monotonic() + 240
    while reached(sweep) <= after:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return sweep.kill(TRIAL)


@pytest.mark.slow
def test_a_trial_whose_process_dies_every_time(tmp_path: Path) -> None:
    """With all cores for each, trials run one after another: it is the long one that is killed."""
    sweep = Sweep(tmp_path, LONG_AND_SHORT)
    process = sweep.start()
    try:
        killed = kill_the_long_one(sweep, after=4)
        assert killed != kill_the_long_one(sweep, after=reached(sweep))
        output, _ = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 1, output
    assert re.search(r"! .*: the trial's process died, last of: .*; tried again \(attempt 2 of 2\)", output)
    assert "failed: the trial's process died, last of: " in output
    assert "Traceback" not in output
    [failure] = failures(sweep)
    assert "(tried 2 times)" in failure["error"]
    assert "pid: " in failure["trace"]
    assert len(list(sweep.trials().glob("*/result.json"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "raised"), [(1, "RuntimeError"), (2, r"WorkerError: rank [01]: RuntimeError")])
def test_a_trial_that_raises_every_time(workers: int, raised: str, tmp_path: Path) -> None:
    """Its data change after they were checked."""
    spec = SPEC.replace("{name: digits, label_noise: 0.3, train_per_class: 40}", "{name: image_folder}")
    spec = spec.replace(
        "grid: {selection.strategy: [none, random, max_loss, coreset]}",
        "zip: {dataset.root: [whole, changed], training.epochs: [12, 13]}",
    )
    spec = spec.replace("cnn, width: 4}", "cnn, width: 2}")
    sweep = Sweep(tmp_path, spec + f"resources: {{max_failures: 1, workers: {workers}}}\n")
    write_images(tmp_path / "whole", train=8, test=2, height=12, width=12, seed=0)
    changed = write_images(tmp_path / "changed", train=8, test=2, height=12, width=12, seed=1)
    process = sweep.start()
    try:
        assert process.stdout is not None
        while "starting Ray" not in process.stdout.readline():
            assert process.poll() is None
        (changed / "train/cat/0.png").unlink()
        output, _ = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 1, output
    [failure] = failures(sweep)
    assert re.match(f"{raised}: data or pretrained weights here are not those that trial", failure["error"])
    assert failure["error"].endswith("(tried 2 times)")
    assert "The end of its log (process " in failure["trace"]
    if workers > 1:
        [process] = set(re.findall(r"Rank \d was process (\d+) on ", failure["trace"]))
        assert f"The end of its log (process {process} on " in failure["trace"]
        assert "in run\n" in failure["trace"], "the worker's own trace"
    assert f"failed: {failure['error']}" in output
    assert len(list(sweep.trials().glob("*/result.json"))) == 1


@pytest.mark.slow
def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    """The sweep fails, saying why, and is gone on with once there is room."""
    sweep = Sweep(tmp_path, SPEC.replace("epochs: 12", "epochs: 60"))
    with small_disk(tmp_path / "runs", "16m", lazy=True) as disk:
        process = sweep.start()
        try:
            sweep.wait_for("trials/*/checkpoints/*.ckpt")
            with open(disk / "filler", "wb", buffering=0) as filler, contextlib.suppress(OSError):
                while True:
                    filler.write(bytes(4096))
            output, _ = process.communicate(timeout=300)
        finally:
            process.kill()
        assert process.returncode in (1, 2), output  # trials failed, or not even that could be stored
        assert re.search(r"/runs/tiny/\S+ cannot be written: No space left on device", output), output
        assert "Traceback" not in output
        (disk / "filler").unlink()
        sweep.wait_until_gone()
        sweep.run()
        assert len(list(sweep.trials().glob("*/result.json"))) == 4


@pytest.mark.slow
def test_a_storage_that_turns_read_only(tmp_path: Path) -> None:
    """In the middle of a sweep, as a disk does that has errors; the sweep goes on once it can be written again."""
    sweep = Sweep(tmp_path, SPEC.replace("epochs: 12", "epochs: 60"))
    process = sweep.start()
    try:
        sweep.wait_for("trials/*/checkpoints/*.ckpt")
        with read_only(tmp_path / "runs"):
            output, _ = process.communicate(timeout=300)
            sweep.wait_until_gone()
    finally:
        process.kill()
    assert process.returncode in (1, 2), output
    assert re.search(r"medoid: \S+/runs/tiny/\S+ cannot be written: Read-only file system", output), output
    assert "Traceback" not in output
    sweep.run()
    assert len(list(sweep.trials().glob("*/result.json"))) == 4


@pytest.mark.slow
def test_a_driver_that_was_replaced_stops_and_leaves_its_trials_to_the_other(tmp_path: Path) -> None:
    """As on a shared disk that forgot its lock while it was cut off: the lock's file is another's by then."""
    sweep = Sweep(tmp_path, SPEC.replace("epochs: 12", "epochs: 60"))
    process = sweep.start()
    try:
        sweep.wait_for("trials/*/checkpoints/*.ckpt")
        lock = tmp_path / "runs/tiny/lock"
        lock.unlink()
        lock.write_text("process 1 on elsewhere\nanother token\n")
        output, _ = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 2, output
    assert "was taken over by process 1 on elsewhere" in output
    assert failures(sweep) == []
    client = MlflowClient(f"sqlite:///{tmp_path}/runs/tiny/tracking/mlflow.db")

    def statuses() -> set[str]:
        found = client.get_experiment_by_name("tiny")
        return {run.info.status for run in client.search_runs([found.experiment_id])}

    assert statuses() == {"RUNNING"}
    sweep.wait_until_gone()
    sweep.run()
    assert statuses() == {"FINISHED"}
    assert len(list(sweep.trials().glob("*/result.json"))) == 4


def run_on(cluster: RayCluster, folder: Path, spec: str) -> tuple[subprocess.Popen[bytes], Path]:
    """Start `medoid run --address`; where its output goes."""
    folder.mkdir(exist_ok=True)
    (folder / "tiny.yaml").write_text(spec)
    command = [sys.executable, "-m", "orchestrator.cli", "run", "tiny.yaml", "--address", cluster.gcs]
    with (folder / "output").open("w") as output:
        environment = cluster.environment(**SOURCE, COLUMNS="150")
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
    return process, folder / "output"


def trial_on(node: Node) -> int | None:
    """The process of a trial that a node runs now."""
    return next((pid for pid in node.processes("ray::") if re.search(TRIAL, command_line(pid))), None)


@pytest.mark.slow
def test_a_node_that_joins_later_is_given_trials(tmp_path: Path) -> None:
    cluster = RayCluster(cpus=0, environment=SOURCE)
    try:
        first = cluster.add(cpus=1)
        process, output = run_on(cluster, tmp_path, SPEC.replace("epochs: 12", "epochs: 100"))
        deadline = time.monotonic() + 300
        while trial_on(first) is None:
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        later = cluster.add(cpus=1)
        both = False
        while process.poll() is None:
            assert time.monotonic() < deadline
            both = both or None not in (trial_on(first), trial_on(later))
            time.sleep(0.1)
        assert process.returncode == 0, output.read_text()
        assert both
    finally:
        cluster.close()


@pytest.mark.slow
def test_the_log_of_a_trial_that_failed_on_another_machine_is_fetched(tmp_path: Path) -> None:
    spec = SPEC.replace("{name: digits, label_noise: 0.3, train_per_class: 40}", "{name: image_folder, root: pets}")
    spec = spec.replace("cnn, width: 4}", "cnn, width: 2}").replace("[none, random, max_loss, coreset]", "[none]")
    pets = write_images(tmp_path / "pets", train=8, test=2, height=12, width=12, seed=0)
    cluster = RayCluster(cpus=0, environment=SOURCE)
    try:
        cluster.add(cpus=1, address="127.0.0.2")
        process, output = run_on(cluster, tmp_path, spec + "resources: {max_failures: 0}\n")
        while "joining Ray" not in output.read_text():
            assert process.poll() is None, output.read_text()
            time.sleep(0.1)
        (pets / "train/cat/0.png").unlink()
        assert process.wait(timeout=300) == 1, output.read_text()
    finally:
        cluster.close()
    [failure] = failures(Sweep(tmp_path))
    assert failure["error"].startswith("RuntimeError: data or pretrained weights here are not those that trial")
    assert re.search(r"\nThe end of its log \(process \d+ on 127\.0\.0\.2\):\n.+", failure["trace"])


@pytest.mark.slow
def test_nodes_whose_clocks_are_apart(tmp_path: Path) -> None:
    """One is 20 minutes ahead, one behind; trials that are killed may go on on the other."""
    spec = SPEC.replace("epochs: 12", "epochs: 60")
    alone = Sweep(tmp_path / "alone", spec)
    alone.run()
    cluster = RayCluster(cpus=0, environment=SOURCE)
    try:
        nodes = [cluster.add(cpus=1, clock=1200), cluster.add(cpus=1, clock=-1200)]
        process, output = run_on(cluster, tmp_path / "apart", spec)
        deadline = time.monotonic() + 300
        seen: set[str] = set()
        while process.poll() is None:
            assert time.monotonic() < deadline, output.read_text()
            for node in nodes if list((tmp_path / "apart").glob(CHECKPOINTS)) else ():
                if node.tag not in seen and (trial := trial_on(node)) is not None:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(trial, SIGKILL)
                        seen.add(node.tag)
            time.sleep(0.05)
        assert process.returncode == 0, output.read_text()
        assert len(seen) == 2
    finally:
        cluster.close()
    assert Sweep(tmp_path / "apart").tables() == alone.tables()
    times = [json.loads(path.read_text()) for path in (tmp_path / "apart/runs/tiny/trials").glob("*/times.json")]
    finished = [epoch["finished_at"] for one in times for epoch in one["epochs"]]
    assert max(finished) - min(finished) > 2000, "clocks were not apart"
    client = MlflowClient(f"sqlite:///{tmp_path}/apart/runs/tiny/tracking/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * 5
    assert all(0 <= run.info.end_time - run.info.start_time < 600_000 for run in runs)
