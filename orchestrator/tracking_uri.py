"""Which MLflow store a sweep uses."""

from pathlib import Path
from urllib.parse import urlsplit

from specs.resources import Tracking


class TrackingError(ValueError):
    """A tracking store that can not be used as things are: says which, and what would do."""


def store_uri(folder: Path, tracking: Tracking) -> str:
    """The URI of a sweep's store: the spec's, or an SQLite file in the sweep's folder.

    Raises TrackingError where its database's driver is missing; whether it can be reached is another matter.
    """
    if tracking.uri is None:
        return f"sqlite:///{folder.absolute()}/tracking/mlflow.db"
    if tracking.uri.startswith("postgresql"):
        _check_driver(tracking.uri)
    return tracking.uri


def artifact_location(folder: Path, uri: str) -> str | None:
    """Where a new experiment keeps its files; None leaves it to the server.

    Beside an SQLite store, so that sweeps that share one share its artifacts; else in the sweep's folder.
    """
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https"):
        return None
    home = Path(parts.path[1:]).absolute().parent if parts.scheme == "sqlite" else folder.absolute() / "tracking"
    return (home / "artifacts").as_uri()


def _check_driver(uri: str) -> None:
    """Only SQLAlchemy knows which driver it takes where the URI names none: that changed between its versions."""
    import sqlalchemy

    try:
        sqlalchemy.make_url(uri).get_dialect().import_dbapi()
    except (ImportError, sqlalchemy.exc.ArgumentError) as error:
        raise TrackingError(
            f"tracking.uri = {uri!r}: {error}; install the driver with pip install 'psycopg[binary]'"
        ) from None
