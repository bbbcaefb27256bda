"""From a spec to what is to be done: data read and checked, trials identified, finished ones found."""

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from specs import SpecError, SweepSpec, Trial, TrialSpec, cell_hash, expand, trial_id
from specs.dataset import Dataset
from specs.errors import Problem
from specs.expansion import OWN_AXES
from specs.model import Model
from specs.resources import Storage as Place
from workers.checks import check_data, check_model
from workers.data import ImageData, load_images
from workers.records import (
    SWEEP_KEY,
    StoppedTrial,
    SweepRecord,
    TrialEntry,
    checkpoint_key,
    load_record,
    trial_key,
)
from workers.storage import Storage, open_storage

if TYPE_CHECKING:  # imports torch
    from workers.weights import Weights

log = logging.getLogger(__name__)
State = Literal["finished", "stopped", "failed", "started", "new"]


@dataclass(frozen=True)
class PlannedTrial:
    """A trial with its identity, and how far it has come."""

    entry: TrialEntry
    spec: TrialSpec
    state: State

    @property
    def id(self) -> str:
        return self.entry.id

    @property
    def label(self) -> str:
        """Such as `coreset 10% seed 0`, with the values of other axes where there are any."""
        entry = self.entry
        parts = [entry.strategy, entry.size, *_other_axes(entry), f"seed {entry.seed}"]
        return " ".join(part for part in parts if part)


def _other_axes(entry: TrialEntry) -> list[str]:
    """Such as `epochs=5` for training.epochs, and `model=resnet8` for model.name."""
    others = ((name, value) for name, value in entry.point.items() if name not in OWN_AXES)
    return [f"{name.removesuffix('.name').rsplit('.', 1)[-1]}={value}" for name, value in others]


@dataclass(frozen=True)
class Prepared:
    """A sweep that is ready to run."""

    sweep: SweepSpec
    record: SweepRecord
    trials: tuple[PlannedTrial, ...]
    storage: Storage
    remains: tuple[str, ...] = ()  # keys that finished trials were killed before they could delete

    @property
    def pending(self) -> list[PlannedTrial]:
        """The trials that are not finished, those already begun first: their checkpoints are done soonest."""
        todo = [trial for trial in self.trials if trial.state not in ("finished", "stopped")]
        return sorted(todo, key=lambda trial: trial.state != "started")


class Library:
    """The data and the pretrained weights of a sweep: each is read once."""

    def __init__(self) -> None:
        self._sets: dict[Dataset, ImageData] = {}
        self._weights: dict[Model, Weights | None] = {}

    def weights(self, model: Model) -> "Weights | None":
        """The weights a network starts from. Raises WeightsError."""
        if model.pretrained is None:
            return None
        if model not in self._weights:
            from workers.weights import read_weights  # imports torch

            self._weights[model] = read_weights(model)
        return self._weights[model]

    def images(self, dataset: Dataset, notify: Callable[[str], None] = log.info) -> ImageData:
        """The images of a dataset; `notify` is told of their being fetched. Corruption is not part of them."""
        kept = {"name", "root", "endpoint", "download", "image_size", "clutter"}
        key = Dataset.model_validate(dataset.model_dump(include=kept))
        if key not in self._sets:
            self._sets[key] = load_images(key, notify=notify)
        return self._sets[key]


def sweep_storage(sweep: SweepSpec) -> Storage:
    """The folder of a sweep."""
    return named_storage(sweep.storage, sweep.name)


def named_storage(place: Place, name: str) -> Storage:
    """The folder of the sweep of this name."""
    return open_storage(f"{place.path.rstrip('/')}/{name}", place.endpoint)


def prepare(
    sweep: SweepSpec, library: Library, notify: Callable[[str], None], storage: Storage | None = None
) -> Prepared:
    """Expand a sweep, read its data, check every trial against it, and find what is finished.

    storage  what the trials will write through; by default what the spec names, without the right of a sole writer

    Raises SpecError with everything that is wrong, before any work starts.
    """
    trials = expand(sweep)
    storage = storage or sweep_storage(sweep)
    stored = _stored(storage)
    wrong: dict[str, None] = {}
    planned: list[PlannedTrial] = []
    for dataset in {trial.spec.dataset for trial in trials}:
        notify(f"reading {dataset.name}" + (f" from {dataset.root}" if dataset.root else ""))
        library.images(dataset, notify)
    for trial in trials:
        images = library.images(trial.spec.dataset)
        try:
            check_data(trial.spec, images)
            weights = library.weights(trial.spec.model)
        except ValueError as error:
            wrong.setdefault(str(error))
            continue
        entry = _entry(trial, images, weights)
        planned.append(PlannedTrial(entry, trial.spec, _state(storage, stored.get(entry.id, ()), entry.id, sweep)))
    _check_models([trial.spec for trial in planned if trial.state != "finished"], library, wrong)
    if wrong:
        raise SpecError([Problem(message, file=sweep.name) for message in wrong])
    record = SweepRecord(
        name=sweep.name,
        description=sweep.description,
        spec=sweep.model_dump(mode="json", exclude_defaults=True),
        trials=tuple(trial.entry for trial in planned),
    )
    remains = (key for trial in planned for key in _remains(trial, stored.get(trial.id, ())))
    return Prepared(sweep, record, tuple(planned), storage, tuple(remains))


def _check_models(specs: Iterable[TrialSpec], library: Library, wrong: dict[str, None]) -> None:
    seen: set[str] = set()
    for spec in specs:
        kind = f"{spec.dataset}{spec.model}{spec.augmentation}{spec.selection.strategy}{spec.selection.proxy}"
        kind += f"{spec.training.batch_size}/{spec.resources.workers}"
        if kind in seen:
            continue
        seen.add(kind)
        try:
            check_model(spec, library.images(spec.dataset), library.weights(spec.model))
        except ValueError as error:
            wrong.setdefault(str(error))


def _entry(trial: Trial, images: ImageData, weights: "Weights | None") -> TrialEntry:
    return TrialEntry(
        id=trial_id(trial.spec, images.fingerprint, weights.fingerprint if weights else ""),
        spec_hash=trial.hash,
        cell_hash=cell_hash(trial.spec),
        strategy=trial.spec.selection.strategy,
        size=trial.size(),
        seed=trial.spec.seed,
        point=trial.point,
    )


def _stored(storage: Storage) -> dict[str, set[str]]:
    """The keys of every trial that is there, by one listing: asking for each would take minutes in S3."""
    found: dict[str, set[str]] = {}
    for key in storage.list("trials"):
        found.setdefault(key.split("/")[1], set()).add(key)
    return found


def _state(storage: Storage, stored: Collection[str], identity: str, sweep: SweepSpec) -> State:
    if trial_key(identity, "result.json") in stored:
        return "finished"
    asha, key = sweep.sweep.asha, trial_key(identity, "stopped.json")
    if asha is not None and key in stored:
        stopped = load_record(storage, key, StoppedTrial)
        if stopped is not None and stopped.asha == asha.model_dump(mode="json"):
            return "stopped"
    if trial_key(identity, "error.json") in stored:
        return "failed"
    checkpoints = trial_key(identity, "checkpoints/")
    return "started" if any(key.startswith(checkpoints) for key in stored) else "new"


def _remains(trial: PlannedTrial, stored: Collection[str]) -> list[str]:
    if trial.state != "finished":
        return []
    kept = {checkpoint_key(trial.id, epoch) for epoch in trial.spec.checkpoints.keep}
    error, checkpoints = trial_key(trial.id, "error.json"), trial_key(trial.id, "checkpoints/")
    return [key for key in stored if key == error or (key.startswith(checkpoints) and key not in kept)]


def write_sweep(prepared: Prepared) -> None:
    """Record the sweep as it is run now, and finish the clean-up of trials that were killed in the midst of it."""
    prepared.storage.write(SWEEP_KEY, prepared.record.to_bytes())
    for key in prepared.remains:
        prepared.storage.delete(key)
