"""A trial as it is handed to the process that runs it."""

import logging
import os
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from selection.mapper import Mapper, SerialMapper
from specs import TrialSpec, trial_id
from specs.dataset import Dataset
from specs.model import PUBLISHED, Model
from specs.places import in_s3
from workers.data import ImageData, load_images
from workers.group import Alone, Group
from workers.loop import Context, Epoch, train
from workers.records import TrialError, trial_key
from workers.storage import Storage
from workers.weights import read_weights

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Assignment:
    """Which trial to run, where its results go, and who selects for it. Can be sent to other processes."""

    trial_id: str
    spec: TrialSpec
    storage: Storage
    mapper: Mapper | None = None  # None: select in the training process
    concurrent: bool = False
    folder: str = ""  # that of the driver, to which the spec's paths are relative; "": this process's

    @property
    def dataset(self) -> Dataset:
        """The spec's, with a root that means the same in every process."""
        root = self.spec.dataset.root
        if root is None or in_s3(root):
            return self.spec.dataset
        return self.spec.dataset.model_copy(update={"root": self._anchored(root)})

    @property
    def model(self) -> Model:
        """The spec's, its weights likewise."""
        pretrained = self.spec.model.pretrained
        if pretrained in (None, PUBLISHED):
            return self.spec.model
        return self.spec.model.model_copy(update={"pretrained": self._anchored(pretrained)})

    def _anchored(self, path: str) -> str:
        return str(Path(self.folder) / Path(path).expanduser())


def run(
    assignment: Assignment,
    group: Group | None = None,
    notify: Callable[[str], None] | None = None,
    images: ImageData | None = None,
) -> Iterator[Epoch]:
    """Run an assigned trial in this process (or this process's part of it), epoch by epoch.

    `notify` is told what the user should know, such as a damaged checkpoint or how far fetching the data is; the log
    is, if it is left out. `images`: the data set, where it is loaded already.
    Raises RuntimeError where data or pretrained weights are others here than where the trial was prepared.
    """
    spec = assignment.spec
    notify = notify or log.warning
    if images is None:
        images = load_images(assignment.dataset, notify=notify, reached=True)
    weights = read_weights(assignment.model)
    found = trial_id(spec, images.fingerprint, weights.fingerprint if weights else "")
    if found != assignment.trial_id:
        raise RuntimeError(
            f"data or pretrained weights here are not those that trial {assignment.trial_id} was prepared with: "
            f"with these it would be {found}"
        )
    context = Context(
        trial_id=assignment.trial_id,
        storage=assignment.storage,
        images=images,
        weights=weights,
        mapper=assignment.mapper or SerialMapper(spec.resources.cpus),
        device=device_of(spec),
        group=group or Alone(),
        concurrent=assignment.concurrent,
        notify=notify,
    )
    yield from train(spec, context)


def device_of(spec: TrialSpec) -> torch.device:
    """The device a trial trains on. Raises RuntimeError where a GPU is asked for and there is none."""
    if not spec.resources.gpus:
        return torch.device("cpu")
    if spec.resources.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    if not torch.cuda.is_available():
        raise RuntimeError("resources.gpus = 1, but torch sees no GPU here; set resources.gpus: 0")
    return torch.device("cuda", torch.cuda.current_device())


def record_failure(assignment: Assignment, error: BaseException, epoch: int) -> TrialError:
    """Store why a trial failed."""
    failure = TrialError(
        trial_id=assignment.trial_id,
        error=f"{type(error).__name__}: {error}".splitlines()[0],
        trace="".join(traceback.format_exception(error)),
        epoch=epoch,
    )
    assignment.storage.write(trial_key(assignment.trial_id, "error.json"), failure.to_bytes())
    return failure
