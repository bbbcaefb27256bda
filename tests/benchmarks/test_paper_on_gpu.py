"""The script in miniature, on the CPU and on a small copy of CIFAR-10's folders."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from scripts import run_script

import specs
from orchestrator.preparation import Library, Prepared, prepare
from small_images import write_images
from workers.records import TrialResult, load_record, trial_key

SMALL = ["model.name=resnet8", "resources.cpus=1", "sweep.grid.selection.fraction=[0.3]", "training.batch_size=8"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("cifar"), train=10, test=2, height=32, width=32)


def command(root: Path, folder: Path, minutes: float) -> list[object]:
    given = ["--root", root, "--minutes", minutes, "--device", "cpu", "--epochs", 2, "--seeds", 2]
    given += ["--storage", folder / "trials", "--results", folder]
    return given + [part for override in SMALL for part in ("--set", override)]


@pytest.fixture(scope="module")
def shown(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """What the script writes and prints, in one call without Ray and MLflow, and in a second that finds all done."""
    folder = tmp_path_factory.mktemp("shown")
    first = run_script("paper_on_gpu.py", *command(root, folder, 10), absent=("ray", "mlflow"))
    assert first.returncode in (0, 1), first.stderr
    found = json.loads((folder / "paper_on_gpu.json").read_text())
    again = run_script("paper_on_gpu.py", *command(root, folder, 0), absent=("ray", "mlflow"))
    assert json.loads((folder / "paper_on_gpu.json").read_text()) == found
    assert again.stdout.splitlines()[-3:] == first.stdout.splitlines()[-3:]
    return found, first.stdout


def test_every_trial_of_the_three_tables_is_run(shown: tuple[dict[str, Any], str]) -> None:
    tables = {name: table["cells"] for name, table in shown[0]["tables"].items()}
    assert list(tables) == ["table4_cifar10", "table5_noisy_cifar10", "table1_cifar10_resnet20"]
    assert [len(cells) for cells in tables.values()] == [5, 5, 3]
    assert all((cell["n"], cell["asked"]) == (2, 2) for cells in tables.values() for cell in cells)


def test_speed_ups_and_the_ceiling_are_of_the_same_clocks(shown: tuple[dict[str, Any], str]) -> None:
    found, text = shown
    table = found["tables"]["table4_cifar10"]
    seconds = {cell["strategy"]: cell["seconds_an_epoch"]["mean"] for cell in table["cells"]}
    speed_ups = {cell["strategy"]: cell["speed_up"]["mean"] for cell in table["cells"]}
    extra = seconds["full"] / seconds["none"] - 1
    assert math.isclose(table["ceiling"]["a"], extra, rel_tol=1e-2)
    assert math.isclose(table["ceiling"]["ceiling"], (1 + extra) / (1 + 0.3 * extra), rel_tol=1e-2)
    reached = found["reached"]["speed_up"]
    assert math.isclose(reached["of_ceiling"], speed_ups["coreset"] / table["ceiling"]["ceiling"], rel_tol=1e-6)
    assert reached["reached"] is None, "two seeds do not say"
    assert (reached["paper"], found["reached"]["gain"]["paper"]) == (3.43, 0.75)
    assert "(paper 3.43)" in text


def test_training_is_measured_with_strong_augmentation_on(shown: tuple[dict[str, Any], str]) -> None:
    rates = shown[0]["throughput"]
    assert set(rates) == {f"deterministic: {way}, cuda_graphs: false" for way in ("true", "false")}
    assert all(len(rate["values"]) == 3 and rate["mean"] > 0 for rate in rates.values())
    assert len({tuple(rate["train_losses"]) for rate in rates.values()}) == 1
    assert shown[0]["reached"]["images_per_second"]["reached"] is False  # on a CPU


def small_sweep(root: Path, folder: Path) -> Prepared:
    given = ["dataset.name=image_folder", f"dataset.root={root}", f"storage.path={folder}", "resources.gpus=0"]
    given += [*SMALL, "training.epochs=3", "training.schedule.milestones=[2]", "checkpoints.every=1", "seeds=[0]"]
    sweep = specs.load("table4_cifar10", [*given, "sweep.grid.selection.strategy=[coreset]"])
    return prepare(sweep, Library(), notify=lambda text: None)


def test_a_trial_stopped_between_epochs_goes_on_to_the_same_result(root: Path, tmp_path: Path) -> None:
    from paper_on_gpu import Clock, work_on

    class EpochByEpoch(Clock):
        """Time for one epoch."""

        def allows(self, cell: str) -> bool:
            return not self.longest

    whole, parts = small_sweep(root, tmp_path / "whole"), small_sweep(root, tmp_path / "parts")
    work_on(whole, Clock(math.inf), alone=True)
    key = trial_key(whole.trials[0].id, "result.json")
    for _ in range(3):
        assert not parts.storage.exists(key)
        work_on(small_sweep(root, tmp_path / "parts"), EpochByEpoch(math.inf), alone=True)
    assert parts.storage.read(key) == whole.storage.read(key)
    assert load_record(parts.storage, key, TrialResult) is not None


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    from paper_on_gpu import _data

    with pytest.raises(SystemExit, match="should hold cifar-10-batches-py"):
        _data(tmp_path)


def test_no_speed_ups_from_a_shared_gpu(root: Path, tmp_path: Path) -> None:
    from paper_on_gpu import Clock, figures, work_on
    from rich.console import Console

    prepared = small_sweep(root, tmp_path)
    work_on(prepared, Clock(math.inf), alone=False)
    (cell,) = figures(prepared, Console(quiet=True))["cells"]
    assert cell["n"] == 1
    assert "speed_up" not in cell
    assert "seconds_an_epoch" not in cell
