"""Progress as a person sees it: bars in a terminal, plain lines elsewhere."""

import io
import re

import pytest
from rich.console import Console

import orchestrator.progress as progress
from orchestrator.preparation import PlannedTrial
from specs import TrialSpec
from workers.records import EpochRecord, EpochTimes, StoppedTrial, TrialEntry, TrialError


def planned(seed: int, epochs: int = 4) -> PlannedTrial:
    spec = TrialSpec.model_validate(
        {
            "dataset": {"name": "digits"},
            "model": {"name": "mlp"},
            "training": {"regime": "subset", "epochs": epochs},
            "selection": {"strategy": "coreset", "fraction": 0.1},
            "seed": seed,
        }
    )
    point = {"selection.fraction": 0.1, "training.batch_size": 64}
    entry = TrialEntry(
        id=f"{seed:012x}", spec_hash="s", cell_hash="c", strategy="coreset", size="10%", seed=seed, point=point
    )
    return PlannedTrial(entry, spec, "new")


def epoch(number: int, accuracy: float | None = 0.5) -> tuple[EpochRecord, EpochTimes]:
    record = EpochRecord(
        epoch=number, train_loss=1.0, learning_rate=0.1, views=10, augmented=5, test_accuracy=accuracy, test_loss=1.0
    )
    parts = dict.fromkeys(("train", "augmentation", "proxies", "selection", "stall", "evaluation"), 0.1)
    return record, EpochTimes(epoch=number, finished_at=0.0, **parts)


def show(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(progress, "_PLAIN_SECONDS", 0.0)
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=150, legacy_windows=False, _environ={"TERM": "xterm"})
    trials = [planned(seed) for seed in range(3)]
    with progress.show_progress(console, trials) as display:
        for trial in trials:
            display.started(trial)
        for number in range(1, 5):
            display.epoch(trials[0], *epoch(number, 0.25 * number))
        display.finished(trials[0])
        display.epoch(trials[1], *epoch(1, None))
        display.failed(trials[1], TrialError(trial_id="x", error="DivergedError: the loss is nan", trace="", epoch=1))
        display.epoch(trials[2], *epoch(1))
        display.note("a checkpoint is damaged")
        display.stopped(trials[2], StoppedTrial(trial_id="x", epoch=1, asha={}))
    return stream.getvalue()


def test_plain_lines_have_no_control_characters_and_tell_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = show(False, monkeypatch)
    assert "\x1b" not in shown
    lines = shown.splitlines()
    assert re.match(r"\[0/3, 0:00\] coreset 10% batch_size=64 seed 0: started", lines[0])
    assert any("seed 0: epoch 2/4 50.0 %" in line and "left" in line for line in lines)
    assert any("[1/3" in line and "seed 0: finished 100.0 %" in line for line in lines)
    assert any("seed 1: failed: DivergedError: the loss is nan" in line for line in lines)
    assert any("[3/3" in line and "seed 2: stopped early after epoch 1 50.0 %" in line for line in lines)
    assert "! a checkpoint is damaged" in lines


def test_bars_end_with_one_line_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = show(True, monkeypatch)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    assert "✓ coreset 10% batch_size=64 seed 0  100.0 %" in text
    assert "✗ coreset 10% batch_size=64 seed 1  failed: DivergedError" in text
    assert "stopped early after epoch 1" in text
    assert "all trials" in text


def test_time_left_follows_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    trial = planned(0, epochs=10)
    tally = progress._Tally([trial])
    tally.begin(trial)
    tally.reach(trial, epoch(1)[0])
    now[0] += 20.0
    tally.reach(trial, epoch(3)[0])
    assert tally.left(trial) == "1:10 left"  # 10 s an epoch, 7 to go


def test_what_a_failed_trial_never_runs_counts_neither_as_done_nor_as_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    failing, other = planned(0, epochs=10), planned(1, epochs=10)
    tally = progress._Tally([failing, other])
    tally.begin(other)
    tally.reach(other, epoch(1)[0])
    now[0] += 10.0
    tally.end(failing)
    assert tally.left_in_all() == "1:30 left"  # 10 s an epoch, 9 to go
