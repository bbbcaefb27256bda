"""Proxies harvested from training: the logits that the network gave while it learned, by hand."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_trials import context, left_behind, plain_inputs, result_of, run, state_after, trial
from torch import nn

import workers.loop
from selection.mapper import Mapper
from selection.select import Selection
from selection.strategies import Candidates
from specs import TrialSpec
from workers.data import ImageData, corrupt
from workers.loop import train
from workers.models import build_model, last_linear
from workers.selecting import Chooser
from workers.storage import LocalStorage
from workers.views import Views, shuffle


def harvesting(*, epochs: int = 6, every: int = 2, **sections: Any) -> TrialSpec:
    """A trial with 200 originals and 20 copies an epoch, that keeps all its checkpoints."""
    selection = {"proxy_source": "harvest", "every": every, **sections.pop("selection", {})}
    training = {"regime": "full+augmented", "epochs": epochs, "batch_size": 16}
    keep = list(range(1, epochs + 1))
    return trial(selection=selection, training=training, checkpoints={"every": 1, "keep": keep}, **sections)


class Witness:
    """Sees every image that is trained on, what the network says of it, and what selections start from."""

    def __init__(self) -> None:
        self.views: dict[int, Views] = {}
        self.logits: list[torch.Tensor] = []
        self.inputs: list[torch.Tensor] = []
        self.candidates: dict[int, Candidates] = {}
        self.measured = 0

    def build(self, *arguments: Any) -> nn.Module:
        module = build_model(*arguments)
        module.register_forward_hook(lambda _, __, logits: self._see(self.logits, module, logits))
        last_linear(module).register_forward_hook(lambda _, inputs, __: self._see(self.inputs, module, inputs[0]))
        return module

    def _see(self, kept: list[torch.Tensor], module: nn.Module, batch: torch.Tensor) -> None:
        if module.training:
            kept.append(batch.detach().clone())

    def originals(self, epoch: int, kept: list[torch.Tensor]) -> np.ndarray:
        """What was kept of epoch `epoch`, counted from 0, for the originals in order of id."""
        views = [self.views[number] for number in sorted(self.views)]
        start = sum(len(one) for one in views[:epoch])
        rows = torch.cat(kept)[start : start + len(views[epoch])].double().numpy()
        first = np.flatnonzero(views[epoch].copies == 0)
        return np.asarray(rows[first[np.argsort(views[epoch].ids[first])]])


@pytest.fixture
def witness(monkeypatch: pytest.MonkeyPatch) -> Witness:
    seen = Witness()
    select, measure = Chooser.select, workers.loop.measure_candidates

    def shuffled(views: Views, seed: int, epoch: int, *, together: bool) -> Views:
        seen.views[epoch] = shuffle(views, seed, epoch, together=together)
        return seen.views[epoch]

    def selected(self: Chooser, strategy: str, candidates: Candidates, epoch: int, mapper: Mapper) -> Selection:
        seen.candidates[epoch] = candidates
        return select(self, strategy, candidates, epoch, mapper)

    def measured(*arguments: Any, **options: Any) -> Candidates:
        seen.measured += 1
        return measure(*arguments, **options)

    monkeypatch.setattr(workers.loop, "build_model", seen.build)
    monkeypatch.setattr(workers.loop, "shuffle", shuffled)
    monkeypatch.setattr(workers.loop, "measure_candidates", measured)
    monkeypatch.setattr(Chooser, "select", selected)
    return seen


def by_hand(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Residuals and losses."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    softmax = exponentials / exponentials.sum(axis=1, keepdims=True)
    return softmax - np.eye(logits.shape[1])[labels], -np.log(softmax[np.arange(len(labels)), labels])


class TestWhatIsHarvested:
    @pytest.mark.parametrize("model", ["mlp", "small_cnn"])
    @pytest.mark.parametrize(
        ("strategy", "proxy"), [("coreset", "residual"), ("coreset", "last_layer"), ("max_loss", "residual")]
    )
    def test_is_what_the_network_said_of_the_originals(
        self, model: str, strategy: str, proxy: str, witness: Witness, tmp_path: Path, images: ImageData
    ) -> None:
        spec = harvesting(model={"name": model, "width": 4}, selection={"strategy": strategy, "proxy": proxy})
        run(spec, LocalStorage(tmp_path), images)
        examples = corrupt(spec.dataset, images, spec.seed)
        assert sorted(witness.candidates) == [0, 2, 4]
        for epoch in (2, 4):
            found = witness.candidates[epoch]
            residuals, losses = by_hand(witness.originals(epoch - 1, witness.logits), examples.labels)
            np.testing.assert_array_equal(found.ids, examples.ids)
            np.testing.assert_allclose(found.residuals, residuals, rtol=0, atol=1e-6)
            np.testing.assert_allclose(found.losses, losses, rtol=1e-4, atol=1e-5)
            if proxy == "last_layer":
                inputs = witness.originals(epoch - 1, witness.inputs)
                np.testing.assert_array_equal(found.embeddings, inputs.astype(np.float32))
            else:
                assert found.embeddings is None

    def test_the_first_selection_goes_by_a_forward_pass(
        self, witness: Witness, tmp_path: Path, images: ImageData
    ) -> None:
        spec = harvesting(model={"name": "mlp", "width": 4})
        run(spec, LocalStorage(tmp_path), images)
        assert witness.measured == 1
        examples = corrupt(spec.dataset, images, spec.seed)
        w1, b1, w2, b2 = (
            parameter.detach().double().numpy()
            for parameter in build_model(spec.model, 10, images.image_shape, spec.seed).parameters()
        )
        logits = np.maximum(plain_inputs(images, examples.ids) @ w1.T + b1, 0) @ w2.T + b2
        residuals, _ = by_hand(logits, examples.labels)
        np.testing.assert_allclose(witness.candidates[0].residuals, residuals, rtol=0, atol=1e-5)

    def test_after_a_warm_up_every_selection_is_harvested(
        self, witness: Witness, tmp_path: Path, images: ImageData
    ) -> None:
        spec = harvesting(selection={"warmup_epochs": 3})
        storage = LocalStorage(tmp_path)
        run(spec, storage, images)
        assert witness.measured == 0
        made = [(one.epoch, one.staleness is not None) for one in result_of(spec, storage, images).selections]
        assert made == [(0, False), (2, False), (3, True), (5, True)]

    def test_only_the_epoch_before_a_selection_is(self, tmp_path: Path, images: ImageData) -> None:
        spec = harvesting(every=3, epochs=7)
        storage = LocalStorage(tmp_path)
        epochs = run(spec, storage, images)
        held = [epoch for epoch in range(1, 8) if "harvested" in state_after(spec, epoch, storage, images)]
        assert held == [3, 6]
        assert [epoch.record.epoch for epoch in epochs if epoch.times.proxies > 0] == [1, 3, 6]


class TestStaleness:
    def test_is_the_mean_number_of_steps_since(self, witness: Witness, tmp_path: Path, images: ImageData) -> None:
        spec = harvesting()
        storage = LocalStorage(tmp_path)
        run(spec, storage, images)
        expected: list[float | None] = [None]
        for epoch in (1, 3):
            views = witness.views[epoch]
            assert len(views) == 220  # 14 steps of 16, the last of 12
            ages = [14 - place // 16 for place in range(220) if views.copies[place] == 0]
            assert len(ages) == 200
            expected.append(sum(ages) / 200)
        found = [one.staleness for one in result_of(spec, storage, images).selections]
        assert found == [value if value is None else pytest.approx(value, rel=1e-12) for value in expected]

    def test_one_step_an_epoch_is_one_step_old(self, tmp_path: Path, images: ImageData) -> None:
        spec = harvesting(every=1, epochs=2)
        spec = spec.model_copy(update={"training": spec.training.model_copy(update={"batch_size": 1000})})
        epochs = run(spec, LocalStorage(tmp_path), images)
        assert [epoch.selection.staleness if epoch.selection else -1 for epoch in epochs] == [None, 1.0]

    def test_forward_passes_are_never_stale(self, tmp_path: Path, images: ImageData) -> None:
        epochs = run(harvesting(selection={"proxy_source": "forward"}), LocalStorage(tmp_path), images)
        assert all(epoch.selection is None or epoch.selection.staleness is None for epoch in epochs)


def test_training_itself_is_not_touched(tmp_path: Path, images: ImageData) -> None:
    """Up to the first selection that differs."""
    model = {"name": "small_cnn", "width": 4}
    weights = []
    for source in ("forward", "harvest"):
        spec = harvesting(model=model, selection={"proxy_source": source, "proxy": "last_layer"}, epochs=3)
        storage = LocalStorage(tmp_path / source)
        run(spec, storage, images)
        weights.append([state_after(spec, epoch, storage, images)["model"] for epoch in (2, 3)])
    forward, harvest = weights
    assert all(torch.equal(forward[0][name], harvest[0][name]) for name in forward[0])
    assert not all(torch.equal(forward[1][name], harvest[1][name]) for name in forward[1])


@pytest.mark.parametrize("stop", range(1, 6))
@pytest.mark.parametrize(
    "selection",
    [
        {"every": 1},
        {"every": 2, "proxy": "last_layer"},
        {"every": 3, "strategy": "max_loss"},
        {"every": 2, "mode": "overlapped", "lag": 2, "proxy": "last_layer"},
    ],
    ids=str,
)
def test_left_after_any_epoch(stop: int, selection: dict[str, Any], tmp_path: Path, images: ImageData) -> None:
    spec = harvesting(model={"name": "small_cnn", "width": 4}, selection=selection)
    whole, broken = LocalStorage(tmp_path / "whole"), LocalStorage(tmp_path / "broken")
    run(spec, whole, images)
    loop = train(spec, context(spec, broken, images))
    list(itertools.islice(loop, stop))
    loop.close()
    after = run(spec, broken, images, notify=pytest.fail)
    assert [epoch.record.epoch for epoch in after] == list(range(stop + 1, 7))
    assert left_behind(broken) == left_behind(whole)
