"""What the actor that runs trials reports, and when."""

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_trials import trial

from small_images import write_images
from specs import TrialSpec, trial_id
from workers import trial_actor
from workers.assignment import Assignment
from workers.data import fetching, load_images
from workers.data.origins import ArchiveFile
from workers.records import trial_key
from workers.storage import LocalStorage
from workers.trial_actor import TrialActor


def packed(folder: Path) -> Path:
    """Eight images in a zip archive."""
    pets = write_images(folder / "pets", train=3, test=1, height=8, width=8)
    return Path(shutil.make_archive(str(pets), "zip", pets))


def actor_of(spec: TrialSpec, identity: str, storage: LocalStorage) -> TrialActor:
    """As Tune has it, without what Tune adds."""
    actor: TrialActor = object.__new__(TrialActor)
    config = {"trial": identity, "report_seconds": 0.0}
    actor.setup(config, assignments={identity: Assignment(identity, spec, storage)})
    return actor


def pets(archive: Path) -> TrialSpec:
    return trial(
        dataset={"name": "image_folder", "root": str(archive), "train_per_class": None, "label_noise": 0.0},
        training={"epochs": 2},
        selection={"strategy": "random", "fraction": 0.5},
    )


def test_while_data_are_fetched_it_says_how_far_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = pets(packed(tmp_path))
    identity = trial_id(spec, load_images(spec.dataset, tmp_path / "elsewhere").fingerprint)
    go_on, bring = threading.Event(), ArchiveFile.bring

    def slowly(self: ArchiveFile, folder: Path, advance: Callable[[int], None]) -> None:
        advance(self.size // 4)
        assert go_on.wait(60)
        bring(self, folder, lambda count: None)

    monkeypatch.setenv("MEDOID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(ArchiveFile, "bring", slowly)
    monkeypatch.setattr(fetching, "_TELL", 0.0)
    monkeypatch.setattr(trial_actor, "_PATIENCE", 0.2)
    actor = actor_of(spec, identity, LocalStorage(tmp_path / "runs"))
    results: list[dict[str, Any]] = [actor.step(), actor.step(), actor.step()]
    said = [note for result in results for note in result.get("notes", ())]
    assert said == [f"fetching {tmp_path}/pets.zip: 25% of 0.0 GB"], "once, as nothing has come since"
    assert all(result["epochs"] == [] and not result["done"] for result in results)
    go_on.set()
    while not results[-1]["done"]:
        results.append(actor.step())
    assert [epoch["record"]["epoch"] for result in results for epoch in result["epochs"]] == [1, 2]


def test_data_that_cannot_be_fetched_fail_the_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDOID_CACHE", str(tmp_path / "cache"))
    spec = pets(tmp_path / "gone.zip")
    with pytest.raises(ValueError, match=r"dataset\.root: .*gone\.zip cannot be read"):
        actor_of(spec, "0" * 16, LocalStorage(tmp_path / "runs")).step()


def test_every_note_of_several_workers_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from workers import distributed

    def notes(assignment: Assignment, notify: Callable[[str], None], *, in_step: bool) -> Iterator[None]:
        for number in range(3):
            notify(f"note {number}")
            yield None
        assignment.storage.write(trial_key(assignment.trial_id, "result.json"), b"what finishes a trial")

    monkeypatch.setattr(distributed, "run_distributed", notes)
    spec = trial(resources={"workers": 2})
    actor = actor_of(spec, "0" * 16, LocalStorage(tmp_path / "runs"))
    results = [actor.step() for _ in range(4)]
    assert [result.get("notes") for result in results] == [["note 0"], ["note 1"], ["note 2"], None]
    assert [result["done"] for result in results] == [False, False, False, True]


def test_what_ends_without_a_result_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be neither finished nor failed, and under ASHA count as stopped for good."""
    from workers import distributed

    monkeypatch.setattr(distributed, "run_distributed", lambda *_, **__: iter([None]))
    actor = actor_of(trial(resources={"workers": 2}), "0" * 16, LocalStorage(tmp_path / "runs"))
    assert not actor.step()["done"]
    with pytest.raises(RuntimeError, match="the trial ended after epoch 0 without a result"):
        actor.step()
