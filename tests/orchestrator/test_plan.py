"""What a sweep will take: hand-counted images and memory, and measured times where there are any."""

from pathlib import Path

import pytest

from orchestrator.inline import run_inline
from orchestrator.plan import estimate
from orchestrator.preparation import Library, prepare
from orchestrator.watching import Watchers
from specs import SweepSpec


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
    found = estimate(prepare(sweep(tmp_path, fraction=0.1), library, notify=print), library)
    assert [cell.label for cell in found] == ["none", "random 10%", "coreset 10%", "full"]
    assert [cell.selected for cell in found] == [0, 30, 30, 300]
    assert [cell.views for cell in found] == [300, 360, 360, 900]
    assert [cell.selection_bytes for cell in found] == [0, 0, 4 * 30 * 30, 0]
    assert [(cell.trials, cell.todo, cell.measured) for cell in found] == [(2, 2, False)] * 4
    assert all(cell.seconds > 0 for cell in found)


def test_a_tolerance_decides_while_running(tmp_path: Path) -> None:
    library = Library()
    spec = sweep(tmp_path, tolerance=0.5)
    spec = spec.model_copy(update={"sweep": spec.sweep.model_copy(update={"grid": {}})})
    (cell,) = estimate(prepare(spec, library, notify=print), library)
    assert (cell.selected, cell.views) == (None, None)


def test_finished_trials_give_their_own_times(tmp_path: Path) -> None:
    library = Library()
    prepared = prepare(sweep(tmp_path, fraction=0.1), library, notify=print)
    run_inline(prepared, Watchers())
    found = estimate(prepare(prepared.sweep, library, notify=print), library)
    assert [(cell.todo, cell.measured) for cell in found] == [(0, True)] * 4


@pytest.mark.parametrize("missing", [0, 1])
def test_finished_trials_are_found_by_their_result(tmp_path: Path, missing: int) -> None:
    library = Library()
    prepared = prepare(sweep(tmp_path, fraction=0.1), library, notify=print)
    run_inline(prepared, Watchers())
    if missing:
        prepared.storage.delete(f"trials/{prepared.trials[0].id}/result.json")
    again = prepare(prepared.sweep, library, notify=print)
    assert len(again.pending) == missing
