"""Early stopping and trials of several workers, through the command line on a real cluster."""

import json
from pathlib import Path

import pytest

from integration.sweeps import SPEC, Sweep

HALVING = SPEC.replace(
    "sweep: {grid: {selection.strategy: [none, random, max_loss, coreset]}}",
    "seeds: [0, 1, 2, 3]\nsweep:\n"
    "  grid: {selection.strategy: [random], training.optimizer.learning_rate: [0.05, 1.0e-6]}\n"
    "  asha: {grace_epochs: 2, reduction_factor: 2}",
)
TWO_WORKERS = SPEC.replace("[none, random, max_loss, coreset]", "[coreset]") + "resources: {workers: 2}\n"


@pytest.mark.slow
def test_trials_that_fall_behind_are_stopped_and_stay_outside_the_table(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, HALVING)
    output = sweep.run()
    stopped = [json.loads(path.read_text()) for path in sweep.trials().glob("*/stopped.json")]
    finished = list(sweep.trials().glob("*/result.json"))
    assert stopped
    assert finished
    assert len(stopped) + len(finished) == 8
    assert all(record["epoch"] >= 2 for record in stopped)
    assert output.count("stopped early after epoch") == len(stopped)
    rows = (tmp_path / "runs/tiny/report/table.csv").read_text().splitlines()[1:]
    assert sum(int(row.split(",")[rows_header(tmp_path).index("n")]) for row in rows) == len(finished)
    again = sweep.run()
    assert "8 already finished" in again  # a stopped trial is not run again either


@pytest.mark.slow
def test_early_stopping_bears_results_without_its_metric(tmp_path: Path) -> None:
    """Of epochs that are not evaluated, and of trials that diverge."""
    spec = HALVING.replace("[0.05, 1.0e-6]", "[0.05, 1.0e+18]").replace("seeds: [0, 1, 2, 3]", "seeds: [0, 1]")
    sweep = Sweep(tmp_path, spec + "evaluation: {every: 4}\n")
    process = sweep.start()
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1, output
    assert "Traceback" not in output
    failed = [json.loads(path.read_text())["error"] for path in sweep.trials().glob("*/error.json")]
    assert len(failed) == 2
    assert all(error.startswith("DivergedError") for error in failed)
    assert len([*sweep.trials().glob("*/result.json"), *sweep.trials().glob("*/stopped.json")]) == 2


def rows_header(folder: Path) -> list[str]:
    return (folder / "runs/tiny/report/table.csv").read_text().splitlines()[0].split(",")


@pytest.mark.slow
def test_a_trial_of_two_workers_gives_the_same_again(tmp_path: Path) -> None:
    first, second = Sweep(tmp_path / "first", TWO_WORKERS), Sweep(tmp_path / "second", TWO_WORKERS)
    first.run()
    second.run()
    assert first.tables() == second.tables()
    (result,) = [json.loads(path.read_text()) for path in first.trials().glob("*/result.json")]
    assert result["spec"]["resources"]["workers"] == 2
    assert [epoch["epoch"] for epoch in result["epochs"]] == list(range(1, 13))
