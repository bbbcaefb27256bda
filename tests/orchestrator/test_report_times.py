"""What the figure of times says of time that no bar holds."""

from pathlib import Path

import pytest
from report_sweeps import sweep_spec, write_sweep

from orchestrator.report.comparisons import compare
from orchestrator.report.drawing import style
from orchestrator.report.results import read_results
from orchestrator.report.speed import selection_costs
from orchestrator.report.time_figures import accuracy_against_time, time_split
from orchestrator.report.time_tables import time_table
from workers.records import (
    SWEEP_KEY,
    EpochTimes,
    SelectionRecord,
    SweepRecord,
    TrialResult,
    TrialTimes,
    load_record,
    trial_key,
)
from workers.storage import LocalStorage

GRID = {"selection.strategy": ["none", "coreset"], "selection.fraction": [0.1]}


def said(
    storage: LocalStorage,
    times: list[dict[str, float]] | None = None,
    selections: list[dict[str, float]] | None = None,
) -> str:
    """The caption, where these replace what the coreset's epochs took and what is known of its selections."""
    spec = sweep_spec(seeds=[0], training={"regime": "full+augmented", "epochs": 3}, sweep={"grid": GRID})
    sweep = write_sweep(storage, spec)
    (trial,) = (entry.id for entry in sweep.trials if entry.strategy == "coreset")
    spent = load_record(storage, trial_key(trial, "times.json"), TrialTimes)
    result = load_record(storage, trial_key(trial, "result.json"), TrialResult)
    assert spent is not None
    assert result is not None
    epochs = tuple(one.model_copy(update=more) for one, more in zip(spent.epochs, times or [{}] * 3, strict=True))
    made = tuple(
        one.model_copy(update=more) for one, more in zip(result.selections, selections or [{}] * 3, strict=True)
    )
    storage.write(trial_key(trial, "times.json"), spent.model_copy(update={"epochs": epochs}).to_bytes())
    storage.write(trial_key(trial, "result.json"), result.model_copy(update={"selections": made}).to_bytes())
    (comparison,) = compare(read_results(storage, sweep))
    with style():
        figure = time_split(comparison, "")
    assert figure is not None
    return figure.caption


def test_selections_computed_beside_training(tmp_path: Path) -> None:
    caption = said(LocalStorage(tmp_path), times=[{}, {"background": 2.0}, {"background": 2.5}])
    assert "Not in the bars: selections computed beside training, per trial coreset 10% 4.5 s." in caption


def test_forward_passes_spared_by_harvesting(tmp_path: Path) -> None:
    """Two of the 5 s of the first, less the 0.5 s that each harvest took."""
    proxies = [{"proxies": 5.0}, {"proxies": 0.5}, {"proxies": 0.5}]
    caption = said(LocalStorage(tmp_path), proxies, selections=[{}, {"staleness": 7.0}, {"staleness": 7.0}])
    assert "spared forward passes, by the first selection's about coreset 10% 9 s a trial." in caption


def test_nothing_where_there_is_nothing(tmp_path: Path) -> None:
    caption = said(LocalStorage(tmp_path))
    assert "beside training" not in caption
    assert "spared" not in caption


def test_records_from_before_there_were_overlaps_are_blocking_ones() -> None:
    record = SelectionRecord.model_validate_json('{"epoch": 3, "strategy": "coreset", "size": 5}')
    assert (record.used_from, record.staleness) == (3, None)
    parts = dict.fromkeys(("train", "augmentation", "proxies", "selection", "stall", "evaluation"), 1.0)
    times = EpochTimes.model_validate({"epoch": 1, "finished_at": 0.0, **parts})
    assert times.background == 0.0
    assert times.training_time == pytest.approx(5.0)


def test_what_was_computed_beside_training_is_no_training_time() -> None:
    parts = dict.fromkeys(("train", "augmentation", "proxies", "selection", "stall", "evaluation"), 1.0)
    assert EpochTimes(epoch=1, finished_at=0.0, background=9.0, **parts).training_time == pytest.approx(5.0)


def test_a_selection_costs_what_those_cost_that_are_made(tmp_path: Path) -> None:
    """The draws of a warm-up cost nothing, and are not counted."""
    storage = LocalStorage(tmp_path)
    said(storage, times=[{}, {"proxies": 3.0, "selection": 1.0}, {"proxies": 5.0, "selection": 2.0}])
    record = load_record(storage, SWEEP_KEY, SweepRecord)
    assert record is not None
    (trial,) = (entry.id for entry in record.trials if entry.strategy == "coreset")
    result = load_record(storage, trial_key(trial, "result.json"), TrialResult)
    assert result is not None
    drawn = result.selections[0].model_copy(update={"strategy": "random"})
    warmed = result.model_copy(update={"selections": (drawn, *result.selections[1:])})
    storage.write(trial_key(trial, "result.json"), warmed.to_bytes())
    spent = load_record(storage, trial_key(trial, "times.json"), TrialTimes)
    assert spent is not None
    (comparison,) = compare(read_results(storage, record))
    (cost,) = selection_costs(comparison)
    assert cost.selections == 2
    assert cost.proxies == pytest.approx(sum(epoch.proxies for epoch in spent.epochs) / 2)
    assert cost.solving == pytest.approx(sum(epoch.selection for epoch in spent.epochs) / 2)


def test_a_cell_beside_two_fulls_has_a_speed_up_for_each(tmp_path: Path) -> None:
    grid = {"selection.strategy": ["none", "full"], "augmentation.copies": [1, 2]}
    spec = sweep_spec(seeds=[0], training={"regime": "full+augmented", "epochs": 3}, sweep={"grid": grid})
    storage = LocalStorage(tmp_path)
    sweep = write_sweep(storage, spec)
    twice = next(
        entry.id for entry in sweep.trials if entry.strategy == "full" and entry.point["augmentation.copies"] == 2
    )
    spent = load_record(storage, trial_key(twice, "times.json"), TrialTimes)
    assert spent is not None
    epochs = tuple(epoch.model_copy(update={"train": 2 * epoch.train}) for epoch in spent.epochs)
    storage.write(trial_key(twice, "times.json"), spent.model_copy(update={"epochs": epochs}).to_bytes())
    table = time_table(compare(read_results(storage, sweep)))
    assert table is not None
    rows = [(row[0], row[2], row[4]) for row in table.rows]
    ones = [row for row in rows if row[0] == "none"]
    assert [row[1] for row in ones] == ["augmentation.copies = 1", "augmentation.copies = 2"]
    assert len({row[2] for row in ones}) == 2
    assert [row[2] for row in rows if row[0] == "full"] == ["1.00 ×", "1.00 ×"]


@pytest.mark.filterwarnings("error")
def test_thirty_sizes_leave_room_for_the_plot(tmp_path: Path) -> None:
    grid = {"selection.strategy": ["coreset"], "selection.fraction": [round(0.03 * n, 2) for n in range(1, 31)]}
    spec = sweep_spec(seeds=[0], training={"regime": "full+augmented", "epochs": 1}, sweep={"grid": grid})
    storage = LocalStorage(tmp_path)
    (comparison,) = compare(read_results(storage, write_sweep(storage, spec)))
    with style():
        assert accuracy_against_time(comparison, "") is not None
