"""Selections that overlap with training: swapped exactly when due, whatever the timing, the kills and the errors."""

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_trials import (
    context,
    gone_on_after_any_kill,
    left_behind,
    mlp_losses,
    plain_inputs,
    result_of,
    run,
    selection_of,
    state_after,
    trial,
    weights_after,
)

from selection.greedi import Partition
from selection.mapper import SerialMapper
from selection.problem import Picks, Problem
from specs import TrialSpec, trial_id
from workers.data import ImageData, corrupt
from workers.loop import train
from workers.overlapping import OverlappedSelectionError
from workers.records import trial_key
from workers.selecting import Chooser, Chosen
from workers.storage import LocalStorage
from workers.views import Views


def overlapped(*, epochs: int = 8, lag: int = 1, every: int = 3, **sections: Any) -> TrialSpec:
    """A trial that keeps all its checkpoints."""
    selection = {"mode": "overlapped", "lag": lag, "every": every, **sections.pop("selection", {})}
    training = {"epochs": epochs, "batch_size": 64, **sections.pop("training", {})}
    keep = list(range(1, epochs + 1))
    return trial(selection=selection, training=training, checkpoints={"every": 1, "keep": keep}, **sections)


class Slow(SerialMapper):
    """Answers late."""

    def map(self, problems: Sequence[Problem], partition: Partition | None = None) -> tuple[list[Picks], float]:
        time.sleep(0.15)
        return super().map(problems, partition)


class Counting(SerialMapper):
    """Knows how often it was asked, and fails at the time of asking number `fatal`, from 1."""

    def __init__(self, fatal: int = 0) -> None:
        super().__init__(1)
        self.fatal, self.asked = fatal, 0

    def map(self, problems: Sequence[Problem], partition: Partition | None = None) -> tuple[list[Picks], float]:
        self.asked += 1
        if self.asked == self.fatal:
            raise ArithmeticError("the shard is gone")
        return super().map(problems, partition)


class Gated(SerialMapper):
    """Answers while its gate is open only."""

    def __init__(self) -> None:
        super().__init__(1)
        self.gate = threading.Event()

    def map(self, problems: Sequence[Problem], partition: Partition | None = None) -> tuple[list[Picks], float]:
        if not self.gate.wait(timeout=60):
            raise TimeoutError("nobody trained on: training waits for the answer")
        return super().map(problems, partition)


@pytest.fixture
def trained_with(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[int]]:
    """By epoch, counted from 0: the S that it trained with."""
    seen: dict[int, list[int]] = {}
    views = Chooser.views

    def spy(self: Chooser, chosen: Chosen | None, epoch: int) -> Views:
        assert chosen is not None
        seen[epoch] = chosen.ids.tolist()
        return views(self, chosen, epoch)

    monkeypatch.setattr(Chooser, "views", spy)
    return seen


class TestSwap:
    @pytest.mark.parametrize(("every", "lag"), [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3)])
    def test_exactly_lag_epochs_after_it_was_asked_for(
        self, every: int, lag: int, trained_with: dict[int, list[int]], tmp_path: Path, images: ImageData
    ) -> None:
        spec = overlapped(every=every, lag=lag)
        storage = LocalStorage(tmp_path)
        epochs = run(spec, storage, images)
        asked = [epoch for epoch in range(0, 8, every) if epoch == 0 or epoch + lag < 8]
        expected = [(epoch, epoch + lag if epoch else 0) for epoch in asked]
        assert [(one.epoch, one.used_from) for one in result_of(spec, storage, images).selections] == expected
        picked = {epoch: selection_of(spec, epoch, storage, images)["ids"].tolist() for epoch in asked}
        assert len({tuple(ids) for ids in picked.values()}) == len(asked), "equal selections would show nothing"
        for epoch in range(8):
            current = max(first for first, used in expected if used <= epoch)
            assert trained_with[epoch] == picked[current], f"epoch {epoch}"
            new = [first for first, used in expected if used == epoch]
            selected = epochs[epoch].selection
            assert (None if selected is None else selected.epoch) == (new[0] if new else None)

    def test_is_made_by_the_network_of_when_it_was_asked_for(self, tmp_path: Path, images: ImageData) -> None:
        spec = overlapped(lag=2, selection={"strategy": "max_loss"})
        storage = LocalStorage(tmp_path)
        run(spec, storage, images)
        examples = corrupt(spec.dataset, images, spec.seed)
        parameters = [value.double().numpy() for value in weights_after(spec, 3, storage, images).values()]
        losses = mlp_losses(parameters, plain_inputs(images, examples.ids), examples.labels)
        largest = set(examples.ids[np.argsort(-losses)[:20]].tolist())
        assert set(selection_of(spec, 3, storage, images)["ids"].tolist()) == largest

    def test_what_could_not_be_used_any_more_is_never_asked_for(self, tmp_path: Path, images: ImageData) -> None:
        spec = overlapped(epochs=6, every=2, lag=2)
        mapper = Counting()
        epochs = run(spec, LocalStorage(tmp_path), images, mapper=mapper)
        assert mapper.asked == 2
        assert [epoch.times.proxies > 0 for epoch in epochs] == [True, False, True, False, False, False]
        folder = trial_key(trial_id(spec, images.fingerprint), "selections")
        assert LocalStorage(tmp_path).list(folder) == [f"{folder}/0000{epoch}.npz" for epoch in (0, 2)]

    def test_after_a_warm_up_the_random_set_goes_on(
        self, trained_with: dict[int, list[int]], tmp_path: Path, images: ImageData
    ) -> None:
        spec = overlapped(every=2, lag=2, selection={"warmup_epochs": 3})
        storage = LocalStorage(tmp_path)
        run(spec, storage, images)
        made = [(one.epoch, one.used_from, one.strategy) for one in result_of(spec, storage, images).selections]
        assert made == [(0, 0, "random"), (2, 2, "random"), (3, 5, "coreset"), (5, 7, "coreset")]
        picked = {epoch: selection_of(spec, epoch, storage, images)["ids"].tolist() for epoch in (0, 2, 3, 5)}
        assert [trained_with[epoch] for epoch in range(8)] == [picked[epoch] for epoch in (0, 0, 2, 2, 2, 3, 3, 5)]

    def test_a_random_set_costs_nothing_and_is_used_at_once(self, tmp_path: Path, images: ImageData) -> None:
        left = []
        for mode in ("blocking", "overlapped"):
            spec = overlapped(selection={"strategy": "random", "mode": mode})
            storage = LocalStorage(tmp_path / mode)
            run(spec, storage, images)
            left.append(weights_after(spec, 8, storage, images))
        assert all((left[0][name] == left[1][name]).all() for name in left[0])


class TestTiming:
    def test_training_goes_on_while_it_is_computed(self, tmp_path: Path, images: ImageData) -> None:
        """Two epochs end while the answer is held back; the third takes it as soon as it is there."""
        spec, mapper = overlapped(lag=2), Gated()
        loop = train(spec, context(spec, LocalStorage(tmp_path), images, mapper=mapper))
        mapper.gate.set()
        assert [next(loop).record.epoch for _ in range(3)] == [1, 2, 3]
        mapper.gate.clear()
        assert [next(loop).record.epoch for _ in range(2)] == [4, 5]
        mapper.gate.set()
        swapped = next(loop)
        assert swapped.selection is not None
        assert (swapped.selection.epoch, swapped.selection.used_from) == (3, 5)

    @pytest.mark.parametrize("lag", [1, 2])
    def test_a_late_answer_changes_nothing(self, lag: int, tmp_path: Path, images: ImageData) -> None:
        spec = overlapped(lag=lag, every=2, model={"name": "small_cnn", "width": 4})
        left = []
        for name, mapper in (("instant", SerialMapper(1)), ("slow", Slow(1))):
            storage = LocalStorage(tmp_path / name)
            run(spec, storage, images, mapper=mapper)
            left.append(left_behind(storage))
        assert left[0] == left[1]

    def test_the_time_split(self, tmp_path: Path, images: ImageData) -> None:
        """Training stands still for the first selection's computing, and for the others as long as it must wait."""
        epochs = run(overlapped(every=2), LocalStorage(tmp_path), images, mapper=Slow(1))
        times = [epoch.times for epoch in epochs]
        swaps = [3, 5, 7]  # asked for before epochs 2, 4, 6, counted from 0
        assert times[0].selection > 0
        assert [epoch for epoch in range(8) if times[epoch].background > 0] == swaps
        assert [epoch for epoch in range(8) if times[epoch].stall > 0] == [0, *swaps]
        assert not any(one.selection for one in times[1:])
        for one in times:
            parts = one.train + one.augmentation + one.proxies + one.selection + one.stall
            assert one.training_time == pytest.approx(parts)


class TestContinuation:
    @pytest.mark.parametrize("stop", range(1, 8))
    @pytest.mark.parametrize("lag", [1, 2, 3])
    def test_left_after_any_epoch(self, stop: int, lag: int, tmp_path: Path, images: ImageData) -> None:
        spec = overlapped(lag=lag, selection={"proxy": "last_layer"})
        whole, broken = LocalStorage(tmp_path / "whole"), LocalStorage(tmp_path / "broken")
        run(spec, whole, images)
        loop = train(spec, context(spec, broken, images))
        list(itertools.islice(loop, stop))
        loop.close()
        asked = [epoch for epoch in (3, 6) if epoch < stop <= epoch + lag < 8]
        pending = state_after(spec, stop, broken, images).get("pending")
        assert (None if pending is None else [pending["epoch"]]) == (asked or None)
        after = run(spec, broken, images, notify=pytest.fail)
        assert [epoch.record.epoch for epoch in after] == list(range(stop + 1, 9))
        assert left_behind(broken) == left_behind(whole)

    @pytest.mark.parametrize("strategy", ["coreset", "max_loss"])
    def test_killed_at_any_change_of_the_storage(self, strategy: str, tmp_path: Path, images: ImageData) -> None:
        spec = overlapped(
            epochs=5,
            every=2,
            lag=2,
            model={"name": "small_cnn", "width": 4},
            selection={"strategy": strategy, "warmup_epochs": 1},
        )
        for _ in gone_on_after_any_kill(spec, tmp_path, images):
            pass


class TestFailure:
    def test_is_the_trial_s_at_the_swap_and_says_why(self, tmp_path: Path, images: ImageData) -> None:
        spec = overlapped(lag=2)
        loop = train(spec, context(spec, LocalStorage(tmp_path), images, mapper=Counting(fatal=2)))
        assert [next(loop).record.epoch for _ in range(5)] == [1, 2, 3, 4, 5]
        expected = "selection asked for after epoch 3 failed: ArithmeticError: the shard is gone"
        with pytest.raises(OverlappedSelectionError, match=expected) as caught:
            next(loop)
        assert isinstance(caught.value.__cause__, ArithmeticError)

    def test_is_mended_by_running_again(self, tmp_path: Path, images: ImageData) -> None:
        spec = overlapped(lag=2)
        whole, broken = LocalStorage(tmp_path / "whole"), LocalStorage(tmp_path / "broken")
        run(spec, whole, images)
        with pytest.raises(OverlappedSelectionError):
            run(spec, broken, images, mapper=Counting(fatal=2))
        run(spec, broken, images)
        assert left_behind(broken) == left_behind(whole)


LEFT = """
import threading, sys
from pathlib import Path
from small_trials import context
from test_overlapping import Gated, overlapped
from specs.dataset import Dataset
from workers.data import load_images
from workers.loop import train
from workers.storage import LocalStorage

spec, mapper = overlapped(), Gated()
mapper.gate.set()
images = load_images(Dataset(name="digits"))
loop = train(spec, context(spec, LocalStorage(sys.argv[1]), images, mapper=mapper))
for _ in range(3):
    next(loop)
mapper.gate.clear()
mapper.gate.wait = lambda timeout: threading.Event().wait()
next(loop)
loop.close()
print([thread.name for thread in threading.enumerate() if thread.name.startswith("selection")])
"""


def test_a_trial_that_is_left_does_not_keep_its_process_alive(tmp_path: Path) -> None:
    """Though its selection is never answered."""
    places = [str(Path(__file__).parent), *sys.path]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {places!r}\n{LEFT}", tmp_path],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "['selection before epoch 3']"), done.stderr
