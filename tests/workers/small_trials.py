"""Small trials on digits, run through the loop, and what they leave behind."""

import contextlib
import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from selection.mapper import SerialMapper
from specs import TrialSpec, trial_id
from workers.data import ImageData
from workers.loop import Context, Epoch, train
from workers.records import TrialResult, checkpoint_key, load_record, trial_key
from workers.storage import LocalStorage


def trial(**sections: Any) -> TrialSpec:
    """A small trial on 200 digits; sections given are merged into this one."""
    data: dict[str, Any] = {
        "dataset": {"name": "digits", "train_per_class": 20, "label_noise": 0.3},
        "model": {"name": "mlp", "width": 8},
        "augmentation": {"weak": [{"name": "random_crop", "padding": 1}], "strong": [{"name": "cutout", "size": 3}]},
        "training": {"regime": "subset", "epochs": 3, "batch_size": 16},
        "selection": {"strategy": "coreset", "fraction": 0.1},
        "seed": 4,
    }
    for name, section in sections.items():
        data[name] = {**data[name], **section} if isinstance(data.get(name), dict) else section
    return TrialSpec.model_validate(data)


def context(spec: TrialSpec, storage: LocalStorage, images: ImageData, **options: Any) -> Context:
    options = {"mapper": SerialMapper(1), **options}
    return Context(trial_id(spec, images.fingerprint), storage, images, **options)


def run(spec: TrialSpec, storage: LocalStorage, images: ImageData, **options: Any) -> list[Epoch]:
    return list(train(spec, context(spec, storage, images, **options)))


def result_of(spec: TrialSpec, storage: LocalStorage, images: ImageData) -> TrialResult:
    result = load_record(storage, trial_key(trial_id(spec, images.fingerprint), "result.json"), TrialResult)
    assert result is not None
    return result


def state_after(spec: TrialSpec, epoch: int, storage: LocalStorage, images: ImageData) -> dict[str, Any]:
    """What a checkpoint that was kept holds."""
    data = storage.read(checkpoint_key(trial_id(spec, images.fingerprint), epoch))
    return dict(torch.load(io.BytesIO(data[data.index(b"PK") :]), weights_only=True))


def weights_after(spec: TrialSpec, epoch: int, storage: LocalStorage, images: ImageData) -> dict[str, torch.Tensor]:
    """The parameters and buffers in a checkpoint that was kept."""
    return dict(state_after(spec, epoch, storage, images)["model"])


def selection_of(spec: TrialSpec, epoch: int, storage: LocalStorage, images: ImageData) -> dict[str, np.ndarray]:
    key = trial_key(trial_id(spec, images.fingerprint), f"selections/{epoch:05d}.npz")
    with np.load(io.BytesIO(storage.read(key))) as stored:
        return dict(stored)


def left_behind(storage: LocalStorage) -> dict[str, bytes]:
    """Everything stored but wall-clock: checkpoints by their state, since they hold the times too."""
    found: dict[str, bytes] = {}
    for key in storage.list(""):
        if key.endswith(".ckpt"):
            data = storage.read(key)
            state = torch.load(io.BytesIO(data[data.index(b"PK") :]), weights_only=True)
            history = json.loads(state.pop("history"))
            del history["times"]
            tensors = io.BytesIO()
            torch.save(state, tensors)
            found[key] = json.dumps(history).encode() + tensors.getvalue()
        elif not key.endswith("times.json"):
            found[key] = storage.read(key)
    return found


def plain_inputs(images: ImageData, ids: np.ndarray) -> np.ndarray:
    """The mlp's inputs without augmentation, in float64: (n, 64)."""
    scaled = (images.train.images[ids].astype(np.float64) / 255 - images.mean) / images.std
    return scaled.reshape(len(ids), -1)


def mlp_losses(parameters: list[np.ndarray], inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    w1, b1, w2, b2 = parameters
    logits = np.maximum(inputs @ w1.T + b1, 0) @ w2.T + b2
    top = logits.max(axis=1, keepdims=True)
    normalisers = np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]
    return np.asarray(normalisers - logits[np.arange(len(labels)), labels])


class Killed(BaseException):
    """The process ends here."""


class Doomed(LocalStorage):
    """A storage whose process is killed just before its change number `life` (from 0)."""

    def __init__(self, root: Path, life: int):
        super().__init__(root)
        self.left = life

    def _live(self) -> None:
        if self.left == 0:
            raise Killed
        self.left -= 1

    def write(self, key: str, data: bytes) -> None:
        self._live()
        super().write(key, data)

    def delete(self, key: str) -> None:
        self._live()
        super().delete(key)


def gone_on_after_any_kill(spec: TrialSpec, folder: Path, images: ImageData) -> Iterator[LocalStorage]:
    """Kill a trial before each change of its storage in turn, run it again, and see that it leaves the same behind.

    Gives the storage of each.
    """
    whole = LocalStorage(folder / "whole")
    run(spec, whole, images)
    expected = left_behind(whole)
    result = trial_key(trial_id(spec, images.fingerprint), "result.json")
    assert result in expected
    for life in itertools.count():
        storage = LocalStorage(folder / str(life))
        with contextlib.suppress(Killed):
            run(spec, Doomed(storage.root, life), images)
        if storage.exists(result):
            break
        run(spec, storage, images, notify=pytest.fail)
        assert left_behind(storage) == expected, f"killed before change {life}"
        yield storage
    assert life > 5
