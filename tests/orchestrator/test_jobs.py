"""What is checked before anything is sent to a cluster, and how jobs are told apart."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from report_sweeps import sweep_spec, write_sweep

from orchestrator.jobs.job import JobError, find_job, job_id, read_jobs
from orchestrator.jobs.places import check_places
from orchestrator.jobs.shipping import PACKAGES, SPEC, pack
from orchestrator.jobs.submission import _finished
from orchestrator.jobs.token import TokenError, find_token
from orchestrator.tracking_uri import TrackingError
from specs import SpecError, SweepSpec, load
from specs.experiment import Asha
from workers import commits
from workers.naming import sweep_id, unique_name
from workers.records import StoppedTrial, trial_key
from workers.storage import LocalStorage

HEAD = "http://head:8265"


def sweep(**changes: Any) -> SweepSpec:
    data = {
        "name": "tiny",
        "dataset": {"name": "digits"},
        "model": {"name": "mlp"},
        "training": {"regime": "full+augmented", "epochs": 1},
        "selection": {"fraction": 0.1},
        "storage": {"path": "/data/runs"},
    }
    return SweepSpec.model_validate(data | changes)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without a token, and an environment without Ray's settings but for the mode."""
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


class TestToken:
    def test_is_looked_for_where_ray_looks_in_that_order(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (home / ".ray").mkdir()
        (home / ".ray/auth_token").write_text("from-home\n")
        assert find_token(HEAD).secret == "from-home"
        (home / "named").write_text("from-file")
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "named"))
        assert find_token(HEAD).secret == "from-file"
        monkeypatch.setenv("RAY_AUTH_TOKEN", "from-environment")
        assert find_token(HEAD).secret == "from-environment"

    @pytest.mark.parametrize("mode", [None, "disabled", ""])
    def test_authentication_must_be_on(self, home: Path, monkeypatch: pytest.MonkeyPatch, mode: str | None) -> None:
        monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
        if mode is None:
            monkeypatch.delenv("RAY_AUTH_MODE")
        else:
            monkeypatch.setenv("RAY_AUTH_MODE", mode)
        with pytest.raises(TokenError, match="set RAY_AUTH_MODE=token"):
            find_token(HEAD)

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (None, "is not there. Save the cluster's token"),
            ("", "is empty"),
            ("two words", "should be one line"),
            ("täglich", "other than ASCII"),
        ],
    )
    def test_what_is_no_token_is_not_sent(self, home: Path, content: str | None, said: str) -> None:
        if content is not None:
            (home / ".ray").mkdir()
            (home / ".ray/auth_token").write_text(content, encoding="utf-8")
        with pytest.raises(TokenError, match=said) as refused:
            find_token(HEAD)
        assert str(home / ".ray/auth_token") in str(refused.value)
        assert not content or content not in str(refused.value)

    def test_does_not_show_in_its_text(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
        token = find_token(HEAD)
        assert "secret" not in f"{token} {token!r}"

    def test_is_asked_for_before_ray_is_imported(self, home: Path) -> None:
        script = (
            f"import sys; sys.argv = ['medoid', 'list', '--address', '{HEAD}']\n"
            "import orchestrator.cli\n"
            "try: orchestrator.cli.main()\n"
            "except SystemExit as end: assert end.code == 2, end.code\n"
            "assert not {'ray', 'torch'} & set(sys.modules)"
        )
        ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        assert "no token for" in ran.stderr


class TestPlaces:
    def test_of_a_cluster_are_absolute_or_in_s3(self) -> None:
        check_places(sweep())
        check_places(sweep(storage={"path": "s3://bucket/runs"}, tracking={"uri": "http://mlflow:5000"}))
        images = {"name": "image_folder", "root": "/data/pets", "image_size": 32}
        check_places(sweep(dataset=images, tracking={"uri": "sqlite:////data/mlflow.db"}))

    def test_relative_ones_are_all_named(self) -> None:
        spec = sweep(
            storage={"path": "runs"},
            dataset={"name": "image_folder", "root": "data/pets", "image_size": 32},
            model={"name": "resnet18", "pretrained": "weights/r18.pt"},
            tracking={"uri": "sqlite:///mlflow.db"},
        )
        with pytest.raises(SpecError) as refused:
            check_places(spec)
        text = str(refused.value)
        for field in ("storage.path = 'runs'", "dataset.root = 'data/pets'", "model.pretrained = 'weights/r18.pt'"):
            assert field in text
        assert "tracking.uri = 'sqlite:///mlflow.db'" in text

    def test_in_s3_mlflow_needs_one_of_its_own(self) -> None:
        with pytest.raises(TrackingError, match=r"tracking\.uri: missing"):
            check_places(sweep(storage={"path": "s3://bucket/runs"}))

    def test_swept_ones_too(self) -> None:
        images = {"name": "image_folder", "root": "/data/pets", "image_size": 32}
        spec = sweep(dataset=images, sweep={"zip": {"dataset.root": ["/data/pets", "pets"], "training.epochs": [1, 2]}})
        with pytest.raises(SpecError, match=r"dataset\.root = 'pets'"):
            check_places(spec)


class TestNames:
    def test_one_place_is_one_sweep(self) -> None:
        assert unique_name("/data/a/tiny") == f"tiny-{sweep_id('/data/a/tiny')}"
        assert unique_name("/data/a/tiny") != unique_name("/data/b/tiny")
        assert unique_name("s3://bucket/prefix/tiny").startswith("tiny-")


def detail(identity: str, storage: str, state: str = "RUNNING", start: int = 0) -> SimpleNamespace:
    """What Ray lists of a job."""
    return SimpleNamespace(
        submission_id=identity,
        status=SimpleNamespace(value=state),
        message="",
        start_time=start,
        end_time=None,
        metadata={"medoid.storage": storage, "medoid.trials": "4"},
    )


class TestJobs:
    def test_others_of_the_cluster_are_left_out(self) -> None:
        name = unique_name("/data/tiny")
        ours = detail(job_id(name, 2), "/data/tiny", start=5000)
        others = [
            SimpleNamespace(submission_id=None, metadata={}, status=None),
            SimpleNamespace(submission_id="raysubmit_x", metadata=None, status=None),
        ]
        (job,) = read_jobs([*others, ours])
        assert (job.sweep, job.sweep_id, job.number, job.trials) == ("tiny", sweep_id("/data/tiny"), 2, 4)
        assert job.submitted == datetime.fromtimestamp(5, UTC)
        assert json.dumps(job.to_json())

    def test_are_found_by_id_or_by_name_the_latest(self) -> None:
        name = unique_name("/data/a-1-b")
        jobs = read_jobs([detail(job_id(name, n), "/data/a-1-b", start=1000 * n) for n in range(1, 12)])
        assert find_job(jobs, "a-1-b").number == 11
        assert find_job(jobs, job_id(name, 3)).number == 3
        with pytest.raises(JobError, match="sweeps there: a-1-b"):
            find_job(jobs, "tiny")

    def test_two_sweeps_of_one_name_are_told_apart(self) -> None:
        folders = ("/data/mine/tiny", "/data/yours/tiny")
        jobs = read_jobs([detail(job_id(unique_name(folder), 1), folder) for folder in folders])
        with pytest.raises(JobError, match="2 sweeps are called 'tiny'") as refused:
            find_job(jobs, "tiny")
        assert all(folder in str(refused.value) for folder in folders)


class TestPackage:
    def test_runs_by_itself_and_reads_the_sweep_as_it_was_checked(self, tmp_path: Path) -> None:
        sent = sweep(description="Größe: 1e-4 – 'quoted' \"twice\" 😀\n\ttabs", seeds=[0, 1])
        pack(sent, tmp_path)
        assert load(tmp_path / SPEC) == sent
        script = (
            "import orchestrator, specs, workers.commits as c; from importlib.metadata import version\n"
            "print(orchestrator.__file__, specs.__file__, version('medoid'), c.commit())"
        )
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        ran = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        orchestrator, specs, version, *commit = ran.stdout.split()
        assert Path(orchestrator).is_relative_to(tmp_path)
        assert Path(specs).is_relative_to(tmp_path)
        assert version == metadata.version("medoid")
        assert commit == commits.commit().split()
        assert {path.name for path in tmp_path.iterdir() if (path / "__init__.py").is_file()} == set(PACKAGES)


def test_what_another_rule_has_stopped_is_not_finished(tmp_path: Path) -> None:
    """As `medoid run` sees it, which goes on with it."""

    def asked(grace: int) -> SweepSpec:
        axes = {"grid": {"selection.strategy": ["none"]}, "asha": {"grace_epochs": grace}}
        training = {"regime": "full+augmented", "epochs": 9}
        return sweep_spec(sweep=axes, seeds=[0], training=training, storage={"path": str(tmp_path)})

    storage = LocalStorage(tmp_path / "demo")
    (entry,) = write_sweep(storage, asked(5), lambda trial: None).trials
    assert _finished(asked(5), []) is None
    stopped = StoppedTrial(trial_id=entry.id, epoch=5, asha=Asha(grace_epochs=5).model_dump(mode="json"))
    storage.write(trial_key(entry.id, "stopped.json"), stopped.to_bytes())
    assert _finished(asked(5), []) is not None
    assert _finished(asked(6), []) is None
