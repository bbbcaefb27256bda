"""Sweeps sent to a real cluster through its job server: followed, refused, stopped, gone on with, beside each other."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from integration.sweeps import REPEATABLE, SPEC, Sweep
from servers.ray_cluster import RayCluster, command_line, ray_cluster
from small_images import write_images

__all__ = ["ray_cluster"]  # a fixture

QUICK = SPEC.replace("epochs: 12", "epochs: 2").replace("[none, random, max_loss, coreset]", "[random, coreset]")


class User:
    """Someone with a spec and a folder for results, who speaks to a cluster."""

    def __init__(self, cluster: RayCluster, folder: Path):
        self.cluster = cluster
        self.folder = folder
        self.said: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)
        self.write()

    def write(self, text: str = QUICK, name: str = "tiny") -> None:
        spec = text.replace("name: tiny", f"name: {name}") + f"storage: {{path: {self.folder / 'runs'}}}\n"
        (self.folder / f"{name}.yaml").write_text(spec)

    def medoid(self, *arguments: str, status: int = 0, **environment: str) -> str:
        """Run a command to its end; what it printed."""
        command = [sys.executable, "-m", "orchestrator.cli", *arguments, "--address", self.cluster.url]
        ran = subprocess.run(
            command,
            cwd=self.folder,
            env=self.cluster.environment(COLUMNS="150", **environment),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        self.said.append(ran.stdout + ran.stderr)
        assert ran.returncode == status, ran.stdout + ran.stderr
        assert "Traceback" not in ran.stderr
        return ran.stdout if status == 0 else ran.stderr

    def submit(self, *arguments: str) -> str:
        """Send a sweep; its job's id."""
        (job,) = re.findall(r"submitted .* as (\S+)\n", self.medoid("submit", *arguments))
        return str(job)

    def tables(self, name: str = "tiny") -> dict[str, bytes]:
        folder = self.folder / "runs" / name / "report"
        return {file: (folder / file).read_bytes() for file in REPEATABLE}

    def wait_for(self, pattern: str, patience: float = 120.0) -> None:
        deadline = time.monotonic() + patience
        while not any(self.folder.glob(f"runs/{pattern}")):
            assert time.monotonic() < deadline, f"no {pattern} within {patience} s"
            time.sleep(0.05)


@pytest.fixture(scope="module")
def user(ray_cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory) -> User:
    return User(ray_cluster, tmp_path_factory.mktemp("user"))


@pytest.fixture(scope="module")
def submitted(user: User) -> dict[str, str]:
    """A sweep that was sent and followed to its end; what was printed on the way, and the processes' command lines."""
    seen = {"submit": user.medoid("submit", "tiny.yaml", "--set", "selection.every=1")}
    seen["twice"] = user.medoid("submit", "tiny.yaml", "--set", "selection.every=1", status=2)
    seen["processes"] = "\n".join(command_line(int(pid)) for pid in os.listdir("/proc") if pid.isdigit())
    seen["logs"] = user.medoid("logs", "-f", "tiny")
    return seen


def test_a_sweep_runs_there_and_is_followed_to_its_table(user: User, submitted: dict[str, str]) -> None:
    (job,) = re.findall(r"submitted tiny \(2 trials\) as (medoid-tiny-[0-9a-f]{8}-1)\n", submitted["submit"])
    assert f"medoid logs -f {job} --address {user.cluster.url}" in submitted["submit"]
    assert "[2/2" in submitted["logs"]
    assert f"report: {user.folder}/runs/tiny/report/index.html" in submitted["logs"]
    # that override came along, and the commit of what ran
    record = json.loads((user.folder / "runs/tiny/sweep.json").read_text())
    assert record["spec"]["selection"] == {"fraction": 0.25}, "every = 1 is the default"
    times = [json.loads(path.read_text()) for path in user.folder.glob("runs/tiny/trials/*/times.json")]
    told = json.loads(user.medoid("status", job, "--json"))
    assert told["state"] == "SUCCEEDED"
    assert (told["storage"], told["trials"]) == (f"{user.folder}/runs/tiny", 2)
    assert {f"{time['versions']['medoid']} {time['commit']}".strip() for time in times} == {told["medoid"]}
    assert told["log_tail"][-1].startswith("MLflow: medoid ui tiny")


def test_it_is_listed_and_found_by_its_name(user: User, submitted: dict[str, str]) -> None:
    listed = json.loads(user.medoid("list", "--json"))
    assert [job["sweep"] for job in listed if job["number"] == 1 and job["sweep"] == "tiny"] == ["tiny"]
    assert "medoid-tiny-" in user.medoid("list")
    assert "succeeded" in user.medoid("status", "tiny")
    assert "was not running" in user.medoid("stop", "tiny")
    lines = [json.loads(line) for line in user.medoid("logs", "tiny", "--json").splitlines()]
    assert any("[2/2" in line["line"] for line in lines)
    assert "no job or sweep 'nosuch'" in user.medoid("status", "nosuch", status=2)


def test_while_it_runs_it_is_not_sent_again(submitted: dict[str, str]) -> None:
    assert re.search(r"tiny runs on this cluster already, as job medoid-tiny-[0-9a-f]{8}-1", submitted["twice"])


def test_once_finished_it_is_not_sent_again_and_its_table_is_shown(user: User, submitted: dict[str, str]) -> None:
    said = user.medoid("submit", "tiny.yaml", "--set", "selection.every=1")
    assert "tiny is finished, by job medoid-tiny-" in said
    assert "coreset" in said
    told = json.loads(user.medoid("submit", "tiny.yaml", "--set", "selection.every=1", "--json"))
    assert (told["finished"], told["job"]["state"]) == ("tiny", "SUCCEEDED")
    away = user.folder / "away"  # as from a machine that does not reach the cluster's disks
    (user.folder / "runs").rename(away)
    try:
        from_log = user.medoid("submit", "tiny.yaml", "--set", "selection.every=1")
    finally:
        away.rename(user.folder / "runs")
    assert "tiny is finished" in from_log
    assert "coreset" in from_log
    assert "report: " in from_log


def test_the_token_is_nowhere_to_be_seen(user: User, submitted: dict[str, str]) -> None:
    token = user.cluster.token
    assert user.cluster.url.rsplit(":", 1)[1] in submitted["processes"], "the cluster's processes are among them"
    assert token not in submitted["processes"]
    assert not any(token in said for said in user.said)
    written = [*user.cluster.logs(), *(path for path in user.folder.rglob("*") if path.is_file())]
    assert any("job-driver" in path.name for path in written)
    assert any(path.name == "mlflow.db" for path in written)
    for path in written:
        assert token.encode() not in path.read_bytes(), path


def test_without_the_token_nothing_is_answered(user: User) -> None:
    wrong = user.folder / "wrong"
    wrong.write_text("0" * 64)
    said = user.medoid("list", status=2, RAY_AUTH_TOKEN_PATH=str(wrong))
    assert f"does not take the token in {wrong}" in said
    assert "0" * 64 not in said
    assert "RAY_AUTH_MODE=token" in user.medoid("submit", "tiny.yaml", status=2, RAY_AUTH_MODE="disabled")
    assert "is not there" in user.medoid("list", status=2, RAY_AUTH_TOKEN_PATH=str(user.folder / "nosuch"))


def test_another_address_in_the_environment_does_not_win(user: User) -> None:
    assert "medoid" in user.medoid(
        "list", RAY_ADDRESS="http://127.0.0.1:1", RAY_API_SERVER_ADDRESS="http://127.0.0.1:1"
    )


def test_what_only_the_cluster_can_refute_is_read_in_the_status(user: User) -> None:
    user.medoid("submit", "tiny.yaml", "--set", "name=pets", "--set", "dataset={name: image_folder, root: /nosuch}")
    user.medoid("logs", "-f", "pets")
    said = user.medoid("status", "pets")
    assert "failed" in said
    assert "medoid: dataset.root: /nosuch is not a folder" in said
    assert user.medoid("submit", "tiny.yaml", "--set", "storage.path=runs", status=2).startswith(
        "medoid: tiny: storage.path = 'runs': should be an absolute path"
    )


@pytest.mark.slow
def test_a_plan_is_made_where_the_sweep_would_run(user: User, submitted: dict[str, str]) -> None:
    more = ("--set", "selection.every=1", "--set", "sweep.grid.selection.strategy=[random, coreset, max_loss]")
    planned = json.loads(user.medoid("plan", "tiny.yaml", *more, "--json"))
    assert planned["place"] == "1 node with 2 CPUs"
    cells = {cell["label"]: cell for cell in planned["cells"]}
    assert [(cell["todo"], cell["measured"]) for cell in cells.values()] == [(0, True), (0, True), (1, False)]
    assert {cell["at_once"] for cell in cells.values()} == {2}
    assert cells["max_loss 25%"]["seconds"] > 0
    assert not list(user.folder.glob("runs/tiny/trials/*/checkpoints/*")), "nothing was started"
    assert "plan" not in user.medoid("list", "--json")
    too_much = user.medoid("plan", "tiny.yaml", "--set", "resources.cpus=3", status=2)
    assert "cpus = 3" in too_much
    assert "the cluster has 2 CPUs + 0 GPUs" in too_much


PLANNED_HERE = """
import json, sys
import specs
from orchestrator import planning
from orchestrator.planning import BusyError, outlook_on
planning._PATIENCE = float(sys.argv[1])
try:
    print(outlook_on(specs.load("tiny.yaml"), "auto", None).to_json())
except BusyError as error:
    print(f"busy: {error}")
"""
KINDS = "zip: {training.epochs: [2, 3], resources.cpus: [1, 2]}"
HOLDING = """
import sys, ray
ray.init("auto", log_to_driver=False)
ray.get(ray.remote(lambda: None).remote())
class Holder:
    def hold(self): ...
holder = ray.remote(Holder).options(num_cpus=2).remote()
ray.get(holder.hold.remote())
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_a_plan_waits_for_room_and_calibrates_each_kind_of_trial(ray_cluster: RayCluster, tmp_path: Path) -> None:
    user = User(ray_cluster, tmp_path / "planner")
    # data below the driver's folder, which is not where Ray's processes were started
    write_images(user.folder / "pets", train=80, test=2, height=8, width=8)
    spec = SPEC.replace("{name: digits, label_noise: 0.3, train_per_class: 40}", "{name: image_folder, root: pets}")
    user.write(spec.replace("grid: {selection.strategy: [none, random, max_loss, coreset]}", KINDS))
    environment = ray_cluster.environment(RAY_ADDRESS=ray_cluster.gcs)

    def planned(patience: float) -> str:
        command = [sys.executable, "-c", PLANNED_HERE, str(patience)]
        ran = subprocess.run(command, cwd=user.folder, env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.strip()

    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDING], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert planned(3.0) == (
            "busy: no room to calibrate in within 3 s: the cluster is busy. When it is free, it holds 1 or 2 trials at "
            "a time"
        )
    finally:
        holder.communicate(timeout=60)
    cells = json.loads(planned(120.0))["cells"]
    assert sorted((cell["at_once"], cell["todo"]) for cell in cells) == [(1, 1), (2, 1)]
    assert all(cell["measured"] is False and cell["seconds"] > 0 for cell in cells)


def inline(folder: Path, text: str = QUICK, *options: str) -> dict[str, bytes]:
    """The results of a sweep that ran here, undisturbed."""
    sweep = Sweep(folder, text)
    sweep.run("--inline", *options)
    return results(sweep.trials())


def results(trials: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in trials.glob("*/result.json")}


@pytest.mark.slow
def test_a_stopped_sweep_goes_on_when_it_is_sent_again(user: User, tmp_path: Path) -> None:
    stopped = User(user.cluster, tmp_path / "stopped")
    long = ("--set", "training.epochs=20", "--set", "training.batch_size=4")
    first = stopped.submit("tiny.yaml", *long)
    stopped.wait_for("tiny/trials/*/checkpoints/*.ckpt")
    assert "stopped. Nothing finished is lost" in stopped.medoid("stop", first)
    assert "Stopped. Nothing finished is lost; submit it again to go on" in stopped.medoid("logs", first)
    assert len(results(stopped.folder / "runs/tiny/trials")) < 2
    second = json.loads(stopped.medoid("submit", "tiny.yaml", *long, "--json"))["id"]
    assert second == first[:-1] + "2"
    told = json.loads(stopped.medoid("stop", second, "--json"))
    assert (told["id"], told["state"]) == (second, "STOPPED")
    second = stopped.submit("tiny.yaml", *long)
    assert second == first[:-1] + "3"
    stopped.medoid("logs", "-f", second)
    assert json.loads(stopped.medoid("status", second, "--json"))["state"] == "SUCCEEDED"
    assert results(stopped.folder / "runs/tiny/trials") == inline(tmp_path / "undisturbed", QUICK, *long)


@pytest.mark.slow
def test_sweeps_of_one_name_beside_each_other_do_not_meet(user: User, tmp_path: Path) -> None:
    mine, yours = User(user.cluster, tmp_path / "mine"), User(user.cluster, tmp_path / "yours")
    other = QUICK.replace("fraction: 0.25", "fraction: 0.5")
    yours.write(other)
    jobs = {one: one.submit("tiny.yaml") for one in (mine, yours)}
    assert "sweeps are called 'tiny'; name a job" in mine.medoid("stop", "tiny", status=2)
    for one, job in jobs.items():
        one.medoid("logs", "-f", job)
        assert json.loads(one.medoid("status", job, "--json"))["state"] == "SUCCEEDED"
    assert results(mine.folder / "runs/tiny/trials") == inline(tmp_path / "alone")
    assert results(yours.folder / "runs/tiny/trials") == inline(tmp_path / "alone too", other)
    assert mine.tables() != yours.tables()


@pytest.mark.slow
def test_of_two_who_submit_a_sweep_at_one_moment_one_is_refused(user: User, tmp_path: Path) -> None:
    User(user.cluster, tmp_path)
    command = [sys.executable, "-m", "orchestrator.cli", "submit", "tiny.yaml", "--address", user.cluster.url]
    both = [
        subprocess.Popen(
            command,
            cwd=tmp_path,
            env=user.cluster.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    said = [one.communicate(timeout=120)[0] for one in both]
    assert sorted(one.returncode for one in both) == [0, 2], said
    assert any("runs on this cluster already" in text for text in said)
    (job,) = re.findall(r"submitted .* as (\S+)\n", "".join(said))
    user.medoid("stop", job)
