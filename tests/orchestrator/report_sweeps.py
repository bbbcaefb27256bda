"""Sweeps for the report's tests: trials with made-up numbers, written with the real records and storage."""

import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.report.contact_sheets import Pictures
from specs import SweepSpec, Trial, TrialSpec, cell_hash, expand, spec_hash, trial_id
from workers.records import (
    SWEEP_KEY,
    DataRecord,
    EpochRecord,
    EpochTimes,
    SelectionRecord,
    SweepRecord,
    TrialEntry,
    TrialResult,
    TrialTimes,
    selection_key,
    trial_key,
)
from workers.storage import Storage

FINGERPRINT = "5ca1ab1e"
TRAIN = 200
LEVEL = {"none": 0.80, "random": 0.86, "max_loss": 0.45, "coreset": 0.89, "full": 0.92}
COST = {"none": 1.0, "random": 1.1, "max_loss": 1.3, "coreset": 1.5, "full": 4.0}


def sweep_spec(**changes: Any) -> SweepSpec:
    """A small sweep over all strategies and two sizes with three seeds; `changes` replace whole sections."""
    spec: dict[str, Any] = {
        "name": "demo",
        "description": "Made-up numbers that look like digits with half of the labels wrong.",
        "dataset": {"name": "digits", "label_noise": 0.5},
        "model": {"name": "mlp"},
        "augmentation": {"weak": ["random_flip"], "strong": ["cutout"]},
        "training": {"regime": "full+augmented", "epochs": 12},
        "seeds": [0, 1, 2],
        "sweep": {
            "grid": {
                "selection.strategy": ["none", "random", "max_loss", "coreset", "full"],
                "selection.fraction": [0.1, 0.3],
            }
        },
    }
    return SweepSpec.model_validate({**spec, **changes})


def write_sweep(
    storage: Storage,
    spec: SweepSpec,
    accuracy: Callable[[Trial], float | None] | None = None,
    clock: float = 1.0,
    concurrent: bool = False,
    host: str = "workbench",
) -> SweepRecord:
    """Write a sweep as if it had been run; a trial whose accuracy is None left nothing behind.

    `clock`, `concurrent` and `host` go into the times alone.
    """
    trials = expand(spec)
    for trial in trials:
        final = (accuracy or believable)(trial)
        if final is not None:
            _write_trial(storage, trial, final, clock, concurrent, host)
    entries = tuple(_entry(trial) for trial in trials)
    record = SweepRecord(
        name=spec.name,
        description=spec.description,
        spec=spec.model_dump(mode="json", exclude_unset=True),
        trials=entries,
    )
    storage.write(SWEEP_KEY, record.to_bytes())
    return record


def believable(trial: Trial) -> float:
    """A final accuracy that grows with the size and differs a little by seed."""
    chosen = trial.spec.selection
    level = LEVEL[chosen.strategy]
    if trial.size():
        level += 0.03 * ((chosen.fraction or 0.1) - 0.1) / 0.2
    return level + 0.006 * math.sin(7 * trial.spec.seed + len(chosen.strategy))


def pictures(spec: TrialSpec, ids: npt.NDArray[np.int64]) -> Pictures:
    """Grey 8x8 images, each with a bar at a place that depends on its class; odd ids are mislabelled."""
    images = np.full((len(ids), 8, 8, 1), 40, np.uint8)
    for image, number in zip(images, ids, strict=True):
        image[:, number % 8, 0] = 220
        image[number % 8, :, 0] = 150
    clean = [str(number % 10) for number in ids]
    labels = [str((number + number % 2) % 10) for number in ids]
    return Pictures(images, labels, clean)


def _entry(trial: Trial) -> TrialEntry:
    return TrialEntry(
        id=trial_id(trial.spec, FINGERPRINT),
        spec_hash=trial.hash,
        cell_hash=cell_hash(trial.spec),
        strategy=trial.spec.selection.strategy,
        size=trial.size(),
        seed=trial.spec.seed,
        point=trial.point,
    )


def _write_trial(storage: Storage, trial: Trial, final: float, clock: float, concurrent: bool, host: str) -> None:
    spec = trial.spec
    strategy, epochs, seed = spec.selection.strategy, spec.training.epochs, spec.seed
    name = trial_id(spec, FINGERPRINT)
    size = round((spec.selection.fraction or 0.1) * TRAIN) if trial.size() else TRAIN
    selections = []
    if strategy in ("random", "max_loss", "coreset"):
        for epoch in range(epochs):
            selections.append(_selection(strategy, epoch, epochs, seed, size))
            stored = io.BytesIO()
            stream = np.random.default_rng((seed, epoch))
            np.savez(
                stored,
                ids=stream.permutation(TRAIN)[:size],
                weights=stream.random(size) if strategy == "coreset" else np.ones(size),
                gains=np.zeros(size),
            )
            storage.write(selection_key(name, epoch), stored.getvalue())
    result = TrialResult(
        trial_id=name,
        spec_hash=spec_hash(spec),
        cell_hash=cell_hash(spec),
        spec=spec,
        data=DataRecord(
            fingerprint=FINGERPRINT,
            train=TRAIN,
            test=50,
            classes=tuple("0123456789"),
            image_shape=(8, 8, 1),
        ),
        test_accuracy=final,
        metric=spec.metric(),
        epochs=tuple(
            EpochRecord(
                epoch=epoch,
                train_loss=2.3 * math.exp(-epoch / 6),
                learning_rate=0.1,
                views=TRAIN + size,
                augmented=size,
                test_accuracy=_accuracy_at(epoch, epochs, final, seed),
                test_loss=1.0 / epoch,
            )
            for epoch in range(1, epochs + 1)
        ),
        selections=tuple(selections),
    )
    storage.write(trial_key(name, "result.json"), result.to_bytes())
    storage.write(trial_key(name, "times.json"), _times(name, trial, clock, concurrent, host).to_bytes())


def _accuracy_at(epoch: int, epochs: int, final: float, seed: int) -> float:
    if epoch == epochs:
        return final
    return final * (1 - 0.85 * math.exp(-4 * epoch / epochs)) + 0.01 * math.sin(3 * epoch + 2 * seed)


def _selection(strategy: str, epoch: int, epochs: int, seed: int, size: int) -> SelectionRecord:
    progress, wave = epoch / epochs, 0.02 * math.sin(5 * epoch + 2 * seed)
    return SelectionRecord(
        epoch=epoch,
        strategy=strategy,
        size=size,
        value=120.5 - epoch if strategy == "coreset" else None,
        gradient_error={"coreset": 0.12, "random": 0.4, "max_loss": 1.9}[strategy] + progress * 0.2 + wave,
        overlap_max_loss={"coreset": 0.2 - 0.1 * progress, "random": size / TRAIN, "max_loss": 1.0}[strategy]
        + (wave if strategy != "max_loss" else 0),
        mislabelled={"coreset": 0.5 - 0.2 * progress, "random": 0.5, "max_loss": 0.55 + 0.4 * progress}[strategy]
        + wave,
    )


def _times(name: str, trial: Trial, clock: float, concurrent: bool, host: str) -> TrialTimes:
    spec = trial.spec
    strategy = spec.selection.strategy
    selecting = strategy in ("max_loss", "coreset")
    cost = COST[strategy] * (spec.selection.fraction or 0.1 if trial.size() else 0.4) * 5 * clock
    return TrialTimes(
        trial_id=name,
        host=host,
        hardware="AMD EPYC, 2 cores",
        versions={"medoid": "0.1.0", "python": "3.11.9", "torch": "2.15.0"},
        commit="c16115c0ffee0123456789abcdef0123456789ab",
        concurrent=concurrent,
        epochs=tuple(
            EpochTimes(
                epoch=epoch,
                train=0.5 * cost + 0.01 * spec.seed,
                augmentation=0.2 * cost,
                proxies=0.1 * clock if selecting else 0.0,
                selection=0.08 * clock if strategy == "coreset" else 0.0,
                stall=0.03 * clock if selecting else 0.0,
                evaluation=0.05 * clock,
                finished_at=1.7e9 + epoch * clock,
            )
            for epoch in range(1, spec.training.epochs + 1)
        ),
    )
