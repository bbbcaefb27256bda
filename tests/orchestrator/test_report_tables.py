"""Tables and CSV files of the report against sweeps small enough to work out by hand."""

import csv
import io
from pathlib import Path

import pytest
from report_sweeps import believable, sweep_spec, write_sweep
from rich.console import Console

from orchestrator.report import comparisons
from orchestrator.report.comparisons import compare
from orchestrator.report.csv_files import csv_files
from orchestrator.report.markdown import table_markdown
from orchestrator.report.provenance import provenance
from orchestrator.report.results import Results, read_results
from orchestrator.report.terminal import terminal_table
from orchestrator.report.wording import accuracy_text, notes, seeds_text
from specs import Trial
from specs.experiment import Asha
from workers.records import StoppedTrial, SweepRecord, TrialError, TrialTimes, load_record, trial_key
from workers.storage import LocalStorage, StorageError

BY_HAND = {
    ("none", ""): (0.80, 0.82, 0.84),
    ("random", "10%"): (0.81, 0.83, 0.85),
    ("random", "30%"): (0.82, 0.84, 0.86),
    ("max_loss", "10%"): (0.70, 0.72, 0.74),
    ("max_loss", "30%"): (0.75, 0.77, 0.79),
    ("coreset", "10%"): (0.88, 0.89, 0.93),
    ("coreset", "30%"): (0.89, 0.91, 0.93),
    ("full", ""): (0.90, 0.92, 0.94),
}


def by_hand(trial: Trial) -> float:
    return BY_HAND[trial.spec.selection.strategy, trial.size()][trial.spec.seed]


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "demo")


def rows_of(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode())))


def shown(results: Results) -> str:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(terminal_table(results))
    return console.export_text()


def markdown_of(results: Results) -> str:
    comparisons = compare(results)
    return table_markdown(results, comparisons, provenance(results, comparisons))


def test_table_by_hand(storage: LocalStorage) -> None:
    results = read_results(storage, write_sweep(storage, sweep_spec(), by_hand))
    (comparison,) = compare(results)
    assert comparison.sizes == ("10%", "30%")
    assert comparison.strategies == ("none", "random", "max_loss", "coreset", "full")
    coreset = comparison.at("coreset", "10%")
    assert coreset is not None
    assert accuracy_text(coreset.accuracy) == "90.0 ± 2.6"
    rows = rows_of(csv_files(results)["table.csv"])
    assert list(rows[0]) == ["strategy", "size", "n", "mean", "std", "share", "share_low", "share_high", "cell_hash"]
    assert [(row["strategy"], row["size"]) for row in rows] == list(BY_HAND)
    found = {(row["strategy"], row["size"]): row for row in rows}
    shares = {("random", "10%"): 0.1, ("random", "30%"): 0.2, ("max_loss", "10%"): -1.0, ("coreset", "30%"): 0.9}
    for place, share in shares.items():  # all seeds agree, so the interval is a point
        ends = [float(found[place][name]) for name in ("share", "share_low", "share_high")]
        assert ends == pytest.approx([share] * 3), place
    ends = [float(found["coreset", "10%"][name]) for name in ("mean", "std", "share", "share_low", "share_high")]
    assert ends == pytest.approx([0.90, 0.0007**0.5, 0.8, 0.7, 0.9])
    assert found["none", ""]["share"] == found["full", ""]["share"] == ""
    assert {row["n"] for row in rows} == {"3"}


def test_markdown_and_terminal_say_the_same(storage: LocalStorage) -> None:
    results = read_results(storage, write_sweep(storage, sweep_spec(), by_hand))
    text = markdown_of(results)
    assert "2 of 3" not in text
    (row,) = [line for line in text.split("\n") if line.startswith("| coreset | **")]
    assert row.split(" | ")[1:3] == [
        "**90.0 ± 2.6**<br>n = 3<br>share 80 % [70, 90]",
        "**91.0 ± 2.0**<br>n = 3<br>share 90 % [90, 90]",
    ]
    assert "| full |  |  | **92.0 ± 2.0**<br>n = 3 |" in text
    assert "c16115c0ffee" in text
    assert "AMD EPYC" in text
    terminal = shown(results)
    for part in ("90.0 ± 2.6", "80 % [70, 90]", "−100 % [−100, −100]", "any size", "n = 3 seeds"):
        assert part in terminal, part


def test_none_at_the_same_size_is_the_baseline_where_it_has_sizes(storage: LocalStorage) -> None:
    levels = {("none", "10%"): 0.6, ("none", "30%"): 0.7, ("coreset", "10%"): 0.75, ("coreset", "30%"): 0.75}

    def level(trial: Trial) -> float:
        return levels.get((trial.spec.selection.strategy, trial.size()), 0.9)

    spec = sweep_spec(training={"regime": "subset", "epochs": 2})
    results = read_results(storage, write_sweep(storage, spec, level))
    (comparison,) = compare(results)
    shares = [cell.share for size in ("10%", "30%") if (cell := comparison.at("coreset", size))]
    assert [share.share for share in shares if share] == pytest.approx([0.5, 0.25])
    assert "with none at the same size" in " ".join(notes(results, (comparison,)))


def test_what_accuracy_means_is_said_where_it_is_not_the_plain_one(storage: LocalStorage) -> None:
    for metric, said in (("accuracy", False), ("balanced_accuracy", True)):
        results = read_results(storage, write_sweep(storage, sweep_spec(evaluation={"metric": metric}), by_hand))
        assert ("class-balanced test accuracy" in shown(results)) == said
        assert ("evaluation.metric = balanced_accuracy" in markdown_of(results)) == said


def test_missing_trials_are_named_with_their_state_and_stay_outside_the_table(storage: LocalStorage) -> None:
    asha = Asha(grace_epochs=5)
    grid = {"selection.strategy": ["none", "random", "max_loss", "coreset", "full"], "selection.fraction": [0.1, 0.3]}
    spec = sweep_spec(sweep={"grid": grid, "asha": asha.model_dump()})
    gone = {("random", "10%", 0): "failed", ("coreset", "10%", 1): "stopped", ("coreset", "30%", 2): "unfinished"}

    def left(trial: Trial) -> float | None:
        place = (trial.spec.selection.strategy, trial.size(), trial.spec.seed)
        return None if place in gone else by_hand(trial)

    sweep = write_sweep(storage, spec, left)
    for entry in sweep.trials:
        state = gone.get((entry.strategy, entry.size, entry.seed))
        if state == "failed":
            error = TrialError(trial_id=entry.id, error="loss is nan | in step 3", trace="…", epoch=4)
            storage.write(trial_key(entry.id, "error.json"), error.to_bytes())
        if state in ("stopped", "unfinished"):  # the latter by another rule: it goes on
            rule = (asha if state == "stopped" else Asha(grace_epochs=4)).model_dump(mode="json")
            stopped = StoppedTrial(trial_id=entry.id, epoch=5, asha=rule)
            storage.write(trial_key(entry.id, "stopped.json"), stopped.to_bytes())
        if state == "stopped":  # in an earlier run it had failed
            error = TrialError(trial_id=entry.id, error="out of memory", trace="…", epoch=1)
            storage.write(trial_key(entry.id, "error.json"), error.to_bytes())
    results = read_results(storage, sweep)
    (comparison,) = compare(results)
    assert [outcome.state for outcome in results.missing()] == ["failed", "stopped", "unfinished"]
    coreset = comparison.at("coreset", "10%")
    assert coreset is not None
    assert seeds_text(coreset) == "n = 2 of 3"
    assert coreset.accuracy is not None
    assert coreset.accuracy.mean == pytest.approx((0.88 + 0.93) / 2)
    assert coreset.share is not None
    assert coreset.share.n == 2
    text = markdown_of(results)
    assert r"in epoch 4: loss is nan \| in step 3" in text
    assert "by ASHA after epoch 5" in text
    assert "“n = 2 of 3” means that one of three trials has no result." in text
    assert "ASHA stopped 1 of 24 trials" in text
    assert "(n = 2 of 3)" in shown(results)
    assert "1 failed; 1 stopped; 1 unfinished" in shown(results)
    states = [row["state"] for row in rows_of(csv_files(results)["trials.csv"])]
    assert states.count("finished") == 21


def test_a_sweep_without_any_result_still_has_its_table(storage: LocalStorage) -> None:
    results = read_results(storage, write_sweep(storage, sweep_spec(), lambda trial: None))
    rows = rows_of(csv_files(results)["table.csv"])
    assert {(row["n"], row["mean"], row["share"]) for row in rows} == {("0", "", "")}
    assert "n = 0 of 3" in markdown_of(results)


def test_an_earlier_error_does_not_hide_a_result(storage: LocalStorage) -> None:
    sweep = write_sweep(storage, sweep_spec(), by_hand)
    error = TrialError(trial_id=sweep.trials[0].id, error="out of memory", trace="", epoch=1)
    storage.write(trial_key(sweep.trials[0].id, "error.json"), error.to_bytes())
    assert not read_results(storage, sweep).missing()


def test_a_damaged_file_is_named(storage: LocalStorage) -> None:
    sweep = write_sweep(storage, sweep_spec(), by_hand)
    key = trial_key(sweep.trials[0].id, "result.json")
    storage.write(key, storage.read(key)[:100])
    with pytest.raises(StorageError, match=f"{key} is not a TrialResult"):
        read_results(storage, sweep)


def test_other_axes_give_a_table_each_and_share_what_they_do_not_touch(storage: LocalStorage) -> None:
    grid = {
        "selection.strategy": ["none", "random", "coreset", "full"],
        "selection.fraction": [0.1],
        "selection.objective": ["distance", "rbf"],
    }

    def level(trial: Trial) -> float:
        return believable(trial) + (0.02 if trial.spec.selection.objective == "rbf" else 0)

    results = read_results(storage, write_sweep(storage, sweep_spec(sweep={"grid": grid}), level))
    distance, rbf = compare(results)
    assert distance.point == (("selection.objective", "distance"),)
    assert rbf.point == (("selection.objective", "rbf"),)
    for strategy, size in (("none", ""), ("random", "10%"), ("full", "")):
        assert distance.at(strategy, size) == rbf.at(strategy, size)
    one, other = distance.at("coreset", "10%"), rbf.at("coreset", "10%")
    assert one is not None
    assert other is not None
    assert one.cell_hash != other.cell_hash
    assert one.accuracy is not None
    assert other.accuracy is not None
    assert other.accuracy.mean == pytest.approx(one.accuracy.mean + 0.02)
    rows = rows_of(csv_files(results)["table.csv"])
    assert [row["selection.objective"] for row in rows] == ["distance"] * 4 + ["rbf"] * 4
    assert "selection.objective" in shown(results)
    assert "## selection.objective = rbf" in markdown_of(results)


def test_an_axis_that_touches_everything_shares_nothing(storage: LocalStorage) -> None:
    grid = {"selection.strategy": ["none", "full"], "model.width": [16, 32]}
    results = read_results(storage, write_sweep(storage, sweep_spec(sweep={"grid": grid}), believable))
    comparisons = compare(results)
    assert [comparison.point[0][1] for comparison in comparisons] == [16, 32]
    assert all(len(comparison.cells) == 2 for comparison in comparisons)


def test_a_swept_section_is_read_field_by_field(storage: LocalStorage) -> None:
    sections = [
        {"strategy": "none"},
        {"strategy": "full"},
        {"strategy": "random", "fraction": 0.1, "every": 2},
        {"strategy": "coreset", "fraction": 0.1, "every": 2},
    ]
    spec = sweep_spec(sweep={"grid": {"selection": sections}})
    (comparison,) = compare(read_results(storage, write_sweep(storage, spec, believable)))
    assert comparison.strategies == ("none", "random", "coreset", "full")
    assert comparison.point == (("selection.every", 2),)


def test_cells_of_different_hashes_never_meet(storage: LocalStorage) -> None:
    grid = {"selection.strategy": ["coreset"], "selection.fraction": [0.1, 0.10000001]}  # both are shown as 10%
    results = read_results(storage, write_sweep(storage, sweep_spec(sweep={"grid": grid}), believable))
    (comparison,) = compare(results)
    assert len(comparison.sizes) == 2
    assert all(cell.cell_hash in cell.size and len(cell.results) == 3 for cell in comparison.cells)


def test_sizes_ascend_in_number_not_in_letters(storage: LocalStorage) -> None:
    grid = {"selection.strategy": ["coreset"], "selection.fraction": [0.3, 0.05, 1.0]}
    results = read_results(storage, write_sweep(storage, sweep_spec(sweep={"grid": grid}), believable))
    assert compare(results)[0].sizes == ("5%", "30%", "100%")


def test_csv_files_hold_full_precision_in_a_fixed_order(storage: LocalStorage) -> None:
    sweep = write_sweep(storage, sweep_spec(), lambda trial: 0.1 + 0.2)
    files = csv_files(read_results(storage, sweep))
    assert all(b"\r" not in data and data.endswith(b"\n") for data in files.values())
    trials = rows_of(files["trials.csv"])
    assert [row["trial"] for row in trials] == [entry.id for entry in sweep.trials]
    assert {row["test_accuracy"] for row in trials} == {"0.30000000000000004"}
    assert len(rows_of(files["curves.csv"])) == len(sweep.trials) * 12
    assert list(rows_of(files["selections.csv"])[0])[:3] == ["trial", "epoch", "strategy"]


def test_only_times_csv_knows_clocks_and_machines(tmp_path: Path) -> None:
    def written(name: str, clock: float, host: str) -> tuple[dict[str, bytes], str]:
        storage = LocalStorage(tmp_path / name)
        results = read_results(storage, write_sweep(storage, sweep_spec(), by_hand, clock, clock > 1, host))
        return csv_files(results), markdown_of(results)

    (one, one_text), (other, other_text) = written("one", 1.0, "workbench"), written("other", 7.5, "elsewhere")
    assert one.pop("times.csv") != (times := other.pop("times.csv"))
    assert b"elsewhere" in times
    assert one == other
    assert one_text == other_text
    assert not any(b"workbench" in data or b"EPYC" in data for data in one.values())


def test_differing_commits_and_hardware_are_said_aloud(storage: LocalStorage) -> None:
    sweep: SweepRecord = write_sweep(storage, sweep_spec(), by_hand)
    key = trial_key(sweep.trials[0].id, "times.json")
    times = load_record(storage, key, TrialTimes)
    assert times is not None
    moved = {"commit": "", "hardware": "NVIDIA H200", "versions": {**times.versions, "torch": "2.16.0"}}
    storage.write(key, times.model_copy(update=moved).to_bytes())
    text = markdown_of(read_results(storage, sweep))
    assert "2 commits: not a checkout, c16115c" in text
    assert "different hardware: NVIDIA H200; AMD EPYC, 2 cores" in text
    assert "torch (2.16.0, 2.15.0)" in text


def test_points_that_differ_in_what_has_no_effect_are_one_comparison(storage: LocalStorage) -> None:
    axes = {"selection.strategy": ["none", "random"], "selection.objective": ["frobenius", "distance"]}
    spec = sweep_spec(sweep={"zip": axes}, selection={"fraction": 0.1})
    (comparison,) = compare(read_results(storage, write_sweep(storage, spec, believable)))
    assert comparison.strategies == ("none", "random")


def test_points_of_a_search_are_not_tried_against_each_other(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which would take minutes for a thousand."""
    axes = {"sample": {"training.optimizer.learning_rate": {"distribution": "uniform", "low": 0.01, "high": 1}}}
    spec = sweep_spec(sweep={**axes, "samples": 20}, seeds=[0], selection={"strategy": "coreset", "fraction": 0.1})
    results = read_results(storage, write_sweep(storage, spec, believable))
    monkeypatch.setattr(comparisons, "cell_hash", lambda spec: pytest.fail("a point was tried at another"))
    assert len(compare(results)) == 20
