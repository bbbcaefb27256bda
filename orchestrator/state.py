"""What of a sweep lies on this machine, wherever its results go: MLflow's journal, and its store if that is a file."""

import os
from pathlib import Path

from orchestrator.tracking_uri import TrackingError, artifact_location, store_uri
from specs.resources import Tracking
from workers.naming import unique_name
from workers.storage import LocalStorage, Storage


def state_folder(storage: Storage) -> Path:
    """The sweep's own folder; for one in S3, a folder of $MEDOID_STATE, else of ~/.local/state/medoid."""
    if isinstance(storage, LocalStorage):
        return storage.root
    home = Path(os.environ.get("MEDOID_STATE") or "~/.local/state/medoid").expanduser()
    return home / unique_name(storage.uri)


def tracking_store(storage: Storage, tracking: Tracking) -> str:
    """The URI of a sweep's MLflow store: the spec's, or an SQLite file in the sweep's folder.

    Raises TrackingError where no store can have that URI, and where the sweep lies in S3 and the spec names none.
    """
    if tracking.uri is None and not isinstance(storage, LocalStorage):
        raise TrackingError(
            f"tracking.uri: missing; an SQLite store cannot lie in {storage.uri} (storage.path): name an MLflow server "
            "(http://HOST:PORT), a database (postgresql://…), or a file of this machine (sqlite:////FOLDER/mlflow.db); "
            "--inline runs without MLflow"
        )
    return store_uri(state_folder(storage), tracking)


def artifact_home(storage: Storage, uri: str) -> str | None:
    """Where a new experiment of this store keeps its files; None leaves it to the server."""
    found = artifact_location(state_folder(storage), uri)
    beside_results = found is not None and not uri.startswith("sqlite:")
    return f"{storage.uri}/tracking/artifacts" if beside_results and not isinstance(storage, LocalStorage) else found
