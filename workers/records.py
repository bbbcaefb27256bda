"""What a trial leaves behind, and under which names. Everything here is JSON or NPZ; nothing imports torch.

A sweep's folder is `<storage.path>/<sweep name>/`:

    sweep.json                       the sweep as last run: its spec and its trials (SweepRecord)
    trials/<trial id>/result.json    a finished trial (TrialResult): same bytes for same spec, seed, data, device kind
    trials/<trial id>/times.json     its wall-clock, host and versions (TrialTimes)
    trials/<trial id>/error.json     why it failed last time (TrialError); gone once it succeeds
    trials/<trial id>/stopped.json   that ASHA stopped it (StoppedTrial)
    trials/<trial id>/selections/<epoch, 5 digits>.npz   ids, weights, gains in pick order (`random`: in id order)
    trials/<trial id>/checkpoints/<epochs done, 5 digits>.ckpt
    tracking/                        MLflow's SQLite store, artifacts and the spool
    report/                          the report
"""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from specs import TrialSpec
from specs.resources import Metric
from workers.storage import Storage


class Record(BaseModel):
    """A frozen piece of a result."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_bytes(self) -> bytes:
        """Canonical JSON: the same record gives the same bytes."""
        return (self.model_dump_json(indent=1) + "\n").encode()


class EpochRecord(Record):
    """One epoch. `epoch` counts from 1: the state after that many epochs."""

    epoch: int
    train_loss: float  # sum of w*l over all views, divided by the number of views
    learning_rate: float
    views: int  # images that went through the network forward and backward
    augmented: int  # of these, strongly augmented copies
    test_accuracy: float | None = None  # 0 to 1, by the trial's metric; None: not evaluated
    test_loss: float | None = None


class SelectionRecord(Record):
    """One selection.

    `epoch` counts the epochs done when it was asked for, and is the network's that it was made by: 0 is before the
    first. `used_from` counts those done when training began to use it: as many, or `lag` more where the selection
    overlapped with training.
    """

    epoch: int
    strategy: str  # "random" during warm-up, whatever the trial's strategy
    size: int
    value: float | None = None  # drop of the objective from the empty set (coreset only)
    gradient_error: float | None = None  # Eq. 8: |sum_V g - sum_S w g| / |sum_V g|, weights scaled to sum to n
    overlap_max_loss: float | None = None  # share of S that is among the |S| largest losses
    mislabelled: float | None = None  # share of S whose label was corrupted; None: no label noise
    used_from: int = Field(default_factory=lambda data: data["epoch"])  # older records have none: they were blocking
    staleness: float | None = None  # mean optimizer steps since an example's logits were computed; None: not harvested


class DataRecord(Record):
    """The data a trial saw."""

    fingerprint: str
    train: int
    test: int
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]  # height, width, channels; of streamed images the least height and width


class TrialResult(Record):
    """A finished trial. Holds nothing that depends on the machine's speed or on how often it was resumed."""

    trial_id: str
    spec_hash: str
    cell_hash: str
    spec: TrialSpec
    data: DataRecord
    test_accuracy: float  # of the last epoch
    metric: Metric = "accuracy"  # what test accuracy is, in every epoch too
    epochs: tuple[EpochRecord, ...]
    selections: tuple[SelectionRecord, ...]


class EpochTimes(Record):
    """Seconds of one epoch, by what they were spent on. Each epoch counts once, however often it was redone.

    All but `background` are stretches of the training process's own time, one after the other, and add up to the epoch.
    """

    epoch: int
    train: float  # forward, backward, step; on the CPU, slowed by what is computed beside it
    augmentation: float  # weak and strong, and bringing the images to the device
    proxies: float  # losses and residuals for a selection: a forward pass before it, or what the epoch harvested for it
    selection: float  # training stood still while a selection was computed, as the one who computed it measured
    stall: float  # training stood still for a selection beyond `selection`: its way there and back, and, for one that
    # overlaps with training, all of the wait for the answer, however long it was computed
    evaluation: float
    background: float = 0.0  # computing the selection that this epoch is the first to use, beside training, as the one
    # who computed it measured; no part of the epoch's wall-clock
    finished_at: float  # seconds since 1970

    @property
    def training_time(self) -> float:
        """What training took, evaluation aside: augmentation, steps, proxies, selection and the wait for it.

        Wall-clock: what was computed beside training is not in it.
        """
        return self.train + self.augmentation + self.proxies + self.selection + self.stall


class TrialTimes(Record):
    """Wall-clock of a trial, and what it ran on."""

    trial_id: str
    host: str
    hardware: str  # such as "AMD EPYC, 2 cores" or "NVIDIA H200"
    versions: dict[str, str]  # medoid, python, torch, ...
    commit: str  # of medoid's source, "" where it is not a checkout
    concurrent: bool  # whether other trials could run on its device at the same time, in any of its epochs
    epochs: tuple[EpochTimes, ...]


class TrialError(Record):
    """Why a trial failed."""

    trial_id: str
    error: str  # one line
    trace: str
    epoch: int  # epochs done before it failed


class StoppedTrial(Record):
    """A trial that ASHA stopped early."""

    trial_id: str
    epoch: int
    asha: dict[str, Any]


class TrialEntry(Record):
    """A trial of a sweep."""

    id: str
    spec_hash: str
    cell_hash: str
    strategy: str
    size: str  # "10%", "150", "ξ=0.5" or "" where S has no size
    seed: int
    point: dict[str, Any]  # its place on the sweep's axes


class SweepRecord(Record):
    """A sweep as last run."""

    name: str
    description: str
    spec: dict[str, Any]
    trials: tuple[TrialEntry, ...]


R = TypeVar("R", bound=Record)


def load_record(storage: Storage, key: str, kind: type[R]) -> R | None:
    """A record from storage, or None where there is none."""
    try:
        return kind.model_validate_json(storage.read(key))
    except FileNotFoundError:
        return None


def trial_key(trial_id: str, name: str) -> str:
    """The key of one of a trial's files."""
    return f"trials/{trial_id}/{name}"


def selection_key(trial_id: str, epoch: int) -> str:
    """The key of a selection asked for after this many epochs."""
    return trial_key(trial_id, f"selections/{epoch:05d}.npz")


def checkpoint_key(trial_id: str, epoch: int) -> str:
    """The key of the state after this many epochs."""
    return trial_key(trial_id, f"checkpoints/{epoch:05d}.ckpt")


SWEEP_KEY = "sweep.json"
