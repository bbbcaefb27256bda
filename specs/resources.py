"""What a trial may use, and what is measured, kept and published on the way."""

from typing import Annotated, Literal

from pydantic import Field

from specs.base import AsTuple, NonNegative, Positive, Section


class Resources(Section):
    """Processors for one trial; Ray runs as many trials at once as fit."""

    workers: Positive = Field(1, description="Processes that train one trial together (DDP where more than one).")
    cpus: Positive = Field(1, description="CPU cores, and threads, of each worker.")
    gpus: Annotated[int, Field(ge=0, le=1)] = Field(0, description="GPUs of each worker: 0 or 1.")
    deterministic: bool = Field(True, description="On a GPU: only deterministic kernels, so that runs repeat exactly.")
    loaders: NonNegative | None = Field(
        None,
        description="Processes that read, decode and crop streamed images for each worker, sharing its cores; "
        "0: the worker does it itself. Without it: one a core.",
    )
    selection_shards: Positive = Field(1, description="Actors of the selection service that all trials share.")
    max_failures: NonNegative = Field(3, description="Times a trial whose process died is started again in one run.")


Metric = Literal["accuracy", "balanced_accuracy"]


class Evaluation(Section):
    """When and how the test accuracy is measured. The reported result is always the last epoch's."""

    every: Positive = Field(1, description="Epochs between evaluations; the last epoch is always evaluated.")
    metric: Metric | None = Field(
        None,
        description="accuracy: share of the test images classified rightly; balanced_accuracy: the mean over the "
        "classes of each one's share. Without it: balanced_accuracy for caltech256, else accuracy.",
    )


class Checkpoints(Section):
    """When a trial's state is saved. The last two are kept until the trial has finished."""

    every: Positive = Field(5, description="Epochs between checkpoints.")
    keep: Annotated[tuple[Positive, ...], AsTuple] = Field(
        (), description="Epochs whose checkpoint is saved and never deleted: 15 is the state after 15 epochs."
    )


class Tracking(Section):
    """The store of the runs, for MLflow."""

    uri: str | None = Field(
        None,
        description="MLflow tracking URI (sqlite:///…, postgresql://… or http(s)://…). "
        "Without it: an SQLite store in the sweep's folder.",
    )
    experiment: str | None = Field(None, description="MLflow experiment; the sweep's name if left out.")


class Storage(Section):
    """Where results, checkpoints, tracking and reports are kept."""

    path: str = Field("runs", description="Folder of sweeps; each gets a folder of its name in it.")
