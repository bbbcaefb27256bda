"""SIGKILL at random moments: the sweep is completed, and the tables equal the undisturbed ones byte for byte."""

import random
import signal
import time
from pathlib import Path

import pytest

from integration.sweeps import Sweep

TRIAL = r"^ray::(ResourceTrainable|TrialActor)"
SHARD = r"^ray::SelectionShard"
DRIVER = r"orchestrator\.cli run"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    sweep = Sweep(tmp_path_factory.mktemp("undisturbed"))
    sweep.run("--inline")
    return _report(sweep)


def _report(sweep: Sweep) -> dict[str, bytes]:
    import subprocess
    import sys

    command = [sys.executable, "-m", "orchestrator.cli", "report", "tiny"]
    subprocess.run(command, cwd=sweep.folder, check=True, capture_output=True)
    return sweep.tables()


@pytest.mark.slow
def test_trial_selection_service_and_driver_are_killed(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    moment = random.Random()
    sweep = Sweep(tmp_path)
    process = sweep.start()
    try:
        sweep.wait_for("trials/*/selections/*.npz")
        sweep.kill(SHARD)
        time.sleep(moment.uniform(0.0, 0.5))
        sweep.kill(TRIAL)
        time.sleep(moment.uniform(0.0, 2.0))
    finally:
        process.kill()
    process.communicate()
    sweep.wait_until_gone()
    sweep.run()
    assert sweep.tables() == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_leaves_a_sweep_to_go_on_with(tmp_path: Path, number: signal.Signals) -> None:
    sweep = Sweep(tmp_path)
    process = sweep.start("--set", "training.epochs=400")
    try:
        sweep.wait_for("trials/*/checkpoints/*.ckpt")
        process.send_signal(number)
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert "go on with: medoid run tiny.yaml --set training.epochs=400" in output
    sweep.wait_until_gone()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_one_run_survives_deaths_of_its_workers(tmp_path: Path, undisturbed: dict[str, bytes], seed: int) -> None:
    moment = random.Random(seed)
    sweep = Sweep(tmp_path)
    process = sweep.start()
    victims = [TRIAL, SHARD, TRIAL]
    moment.shuffle(victims)
    sweep.wait_for("trials/*/checkpoints/*.ckpt")
    for victim in victims:
        time.sleep(moment.uniform(0.0, 1.5))
        if sweep.processes(DRIVER):
            sweep.kill(victim)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert sweep.tables() == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_the_driver_dies_again_and_again(tmp_path: Path, undisturbed: dict[str, bytes], seed: int) -> None:
    moment = random.Random(seed)
    sweep = Sweep(tmp_path)
    for _ in range(3):
        process = sweep.start()
        time.sleep(moment.uniform(5.0, 22.0))
        process.kill()
        process.communicate()
        sweep.wait_until_gone()
    sweep.run()
    assert sweep.tables() == undisturbed
