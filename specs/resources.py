"""What a trial may use, and what is measured, kept and published on the way."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from specs.base import AsTuple, NonNegative, Positive, Section
from specs.errors import without_passwords
from specs.places import check_endpoint, check_place, check_tracking, in_s3


class Resources(Section):
    """Processors for one trial; Ray runs as many trials at once as fit."""

    workers: Positive = Field(1, description="Processes that train one trial together (DDP where more than one).")
    cpus: Positive = Field(1, description="CPU cores, and threads, of each worker.")
    gpus: Annotated[int, Field(ge=0, le=1)] = Field(0, description="GPUs of each worker: 0 or 1.")
    deterministic: bool = Field(True, description="On a GPU: only deterministic kernels, so that runs repeat exactly.")
    cuda_graphs: bool = Field(
        False,
        description="On a GPU: replay the steps of full batches as CUDA graphs, which spares small networks most of "
        "the time of starting kernels; for a single worker. Changes no result.",
    )
    loaders: NonNegative | None = Field(
        None,
        description="Processes that read, decode and crop streamed images for each worker, sharing its cores; "
        "0: the worker does it itself. Without it: one a core.",
    )
    selection_shards: Positive = Field(1, description="Actors of the selection service that all trials share.")
    max_failures: NonNegative = Field(
        3, description="Times a trial that failed, or whose process died, is started again in one run."
    )

    @field_validator("cuda_graphs")
    @classmethod
    def _one_gpu(cls, cuda_graphs: bool, info: ValidationInfo) -> bool:
        if cuda_graphs and (info.data.get("gpus"), info.data.get("workers")) != (1, 1):
            raise ValueError("needs gpus: 1 and workers: 1; leave cuda_graphs out otherwise")
        return cuda_graphs


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

    model_config = ConfigDict(hide_input_in_errors=True)

    uri: str | None = Field(
        None,
        description="MLflow tracking URI (sqlite:///…, postgresql://… or http(s)://…), without a password: those are "
        "read from the environment. Without it: an SQLite store in the sweep's folder.",
    )
    experiment: str | None = Field(None, description="MLflow experiment; the sweep's name if left out.")

    @field_validator("uri")
    @classmethod
    def _usable(cls, uri: str | None) -> str | None:
        if uri is None:
            return None
        if without_passwords(uri) != uri:
            raise ValueError(
                "a spec is copied into results and reports, so it holds no password; set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, in the environment (PGPASSWORD for postgresql://)"
            )
        return check_tracking(uri)


class Storage(Section):
    """Where results, checkpoints and reports are kept, and MLflow's store where the spec names none."""

    path: str = Field(
        "runs", description="Folder of sweeps, or s3://bucket/prefix; each sweep gets a folder of its name in it."
    )
    endpoint: str | None = Field(
        None,
        description="URL of the S3 server, such as http://minio:9000; without it Amazon's, or AWS_ENDPOINT_URL_S3. "
        "Credentials are read where all of S3's clients look: the environment, ~/.aws, the machine's role.",
    )

    @field_validator("path")
    @classmethod
    def _usable(cls, path: str) -> str:
        return check_place(path, "s3://bucket/prefix")

    @field_validator("endpoint")
    @classmethod
    def _server(cls, endpoint: str | None, info: ValidationInfo) -> str | None:
        if endpoint is None:
            return None
        if not in_s3(info.data.get("path", "s3://")):
            raise ValueError("only storage in S3 has a server: set path to s3://bucket/prefix, or leave endpoint out")
        return check_endpoint(endpoint)
