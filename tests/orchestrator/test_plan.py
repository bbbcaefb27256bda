"""What a sweep will take: hand-counted images and memory, and measured times where there are any."""

from pathlib import Path

import numpy as np
import pytest

from orchestrator.inline import run_inline
from orchestrator.plan import _Costs, _reckon, estimate
from orchestrator.preparation import Library, prepare
from orchestrator.watching import Watchers
from selection import plan
from specs import SweepSpec, TrialSpec
from specs.augmentation import Augmentation
from workers.data import TrainingSet
from workers.selecting import Chooser


def sweep(folder: Path, **selection: object) -> SweepSpec:
    return SweepSpec.model_validate(
        {
            "name": "planned",
            "dataset": {"name": "digits", "train_per_class": 30},
            "model": {"name": "mlp", "width": 8},
            "augmentation": {"copies": 2},
            "training": {"regime": "full+augmented", "epochs": 2},
            "selection": {"every": 2, **selection},
            "seeds": [0, 1],
            "sweep": {"grid": {"selection.strategy": ["none", "random", "coreset", "full"]}},
            "storage": {"path": str(folder)},
        }
    )


def test_images_and_memory_are_counted(tmp_path: Path) -> None:
    library = Library()
    found = list(estimate(prepare(sweep(tmp_path, fraction=0.1), library, notify=print), library).values())
    assert [cell.label for cell in found] == ["none", "random 10%", "coreset 10%", "full"]
    assert [cell.selected for cell in found] == [0, 30, 30, 300]
    assert [cell.views for cell in found] == [300, 360, 360, 900]
    planned = plan([30] * 10, columns=10, budget=30, threads=1)
    assert [cell.selection_bytes for cell in found] == [0, 0, planned.bytes, 0]
    assert [(cell.trials, cell.todo, cell.measured) for cell in found] == [(2, 2, False)] * 4
    assert all(cell.seconds > 0 for cell in found)


def test_loss_guided_copies_cost_their_candidates(tmp_path: Path) -> None:
    library = Library()
    spec = sweep(tmp_path, fraction=0.1)
    seconds = []
    for strong in ([], [{"name": "loss_guided", "candidates": 64, "kept": 2, "cutout": 3}]):
        augmentation = Augmentation.model_validate({"strong": strong, "copies": 2})
        found = estimate(
            prepare(spec.model_copy(update={"augmentation": augmentation}), library, notify=print), library
        )
        seconds.append({cell.label: cell.seconds for cell in found.values()})
    assert seconds[1]["full"] > 3 * seconds[0]["full"], "600 copies, 32 candidates each"


def test_a_tolerance_decides_while_running(tmp_path: Path) -> None:
    library = Library()
    spec = sweep(tmp_path, tolerance=0.5)
    spec = spec.model_copy(update={"sweep": spec.sweep.model_copy(update={"grid": {}})})
    (cell,) = estimate(prepare(spec, library, notify=print), library).values()
    assert (cell.selected, cell.views) == (None, None)


def test_finished_trials_give_their_own_times(tmp_path: Path) -> None:
    library = Library()
    prepared = prepare(sweep(tmp_path, fraction=0.1), library, notify=print)
    run_inline(prepared, Watchers())
    found = estimate(prepare(prepared.sweep, library, notify=print), library).values()
    assert [(cell.todo, cell.measured) for cell in found] == [(0, True)] * 4


def reckoned(workers: int = 1, **selection: object) -> float:
    """The seconds of 6 epochs of 100 views each: an epoch 10 s, a forward pass over V 5 s, a selection 12 s."""
    data = {
        "dataset": {"name": "digits"},
        "model": {"name": "mlp"},
        "training": {"regime": "full+augmented", "epochs": 6},
        "selection": {"fraction": 0.1, "every": 2, **selection},
        "evaluation": {"every": 6},
        "resources": {"workers": workers},
        "seed": 0,
    }
    ids = np.arange(50)
    chooser = Chooser(TrialSpec.model_validate(data), TrainingSet(ids, ids % 2, ids % 2))
    costs = _Costs(weak=0.04, strong=0.0, step=0.06, forward=0.1, selection=12.0)
    return _reckon(chooser, costs, views=100, copies=0, test=0)


def test_what_training_does_not_wait_for_is_not_counted() -> None:
    assert reckoned() == pytest.approx(60 + 3 * (5 + 12))
    assert reckoned(mode="overlapped") == pytest.approx(60 + (5 + 12) + 2 * (5 + 2)), "an epoch hides 10 s of 12"
    assert reckoned(mode="overlapped", lag=2) == pytest.approx(60 + (5 + 12) + 5), "the last could not be used"
    assert reckoned(proxy_source="harvest") == pytest.approx(60 + 5 + 3 * 12)
    assert reckoned(proxy_source="harvest", warmup_epochs=1) == pytest.approx(60 + 3 * 12)


def test_workers_share_images_and_not_the_selection() -> None:
    assert reckoned(workers=2) == pytest.approx(30 + 3 * (2.5 + 12))


@pytest.mark.parametrize("missing", [0, 1])
def test_finished_trials_are_found_by_their_result(tmp_path: Path, missing: int) -> None:
    library = Library()
    prepared = prepare(sweep(tmp_path, fraction=0.1), library, notify=print)
    run_inline(prepared, Watchers())
    if missing:
        prepared.storage.delete(f"trials/{prepared.trials[0].id}/result.json")
    again = prepare(prepared.sweep, library, notify=print)
    assert len(again.pending) == missing
