"""Which places in a spec mean something on another machine."""

from pathlib import PurePosixPath

from orchestrator.preparation import sweep_storage
from orchestrator.state import tracking_store
from specs import SpecError, SweepSpec, expand
from specs.errors import Problem
from specs.model import PUBLISHED
from specs.places import in_s3

_ALLOWED = "should be an absolute path that every node of the cluster reaches, or s3://BUCKET/PREFIX"
_FILE = "should be the absolute path of a file that every node of the cluster reaches"


def check_places(sweep: SweepSpec) -> None:
    """Raise SpecError with all places that cannot be meant for a cluster; TrackingError for S3 without one for MLflow.

    Relative paths are relative to where the user stands here.
    """
    wrong: dict[Problem, None] = {}

    def refuse(field: str, value: str, message: str) -> None:
        wrong.setdefault(Problem(message, field, sweep.name, value=value, has_value=True))

    if in_s3(sweep.storage.path):
        if sweep.tracking.uri is None:
            tracking_store(sweep_storage(sweep), sweep.tracking)
    elif not _is_absolute(sweep.storage.path):
        refuse("storage.path", sweep.storage.path, _ALLOWED)
    uri = sweep.tracking.uri
    if uri is not None and uri.startswith("sqlite:") and not uri.startswith("sqlite:////"):
        refuse("tracking.uri", uri, "sqlite:///FILE is relative; should be sqlite:////ABSOLUTE/FILE")
    for trial in expand(sweep):
        root, pretrained = trial.spec.dataset.root, trial.spec.model.pretrained
        if root is not None and not (_is_absolute(root) or in_s3(root)):
            refuse("dataset.root", root, _ALLOWED)
        if pretrained not in (None, PUBLISHED) and not _is_absolute(pretrained):
            refuse("model.pretrained", pretrained, _FILE)
    if wrong:
        raise SpecError(list(wrong))


def _is_absolute(path: str) -> bool:
    return PurePosixPath(path).is_absolute()
