"""Which MLflow store a sweep uses."""

import importlib.util
from pathlib import Path
from urllib.parse import urlsplit

from specs.resources import Tracking

FORMS = "sqlite:///FILE, postgresql://USER:PASSWORD@HOST/DATABASE, http://HOST:PORT or https://HOST"
POSTGRESQL_DRIVERS = ("psycopg", "psycopg2")


class TrackingError(ValueError):
    """A tracking store that can never be used: says which, and what would do."""


def store_uri(folder: Path, tracking: Tracking) -> str:
    """The URI of a sweep's store: the spec's, or an SQLite file in the sweep's folder.

    Raises TrackingError where no store can have that URI; whether it can be reached is another matter.
    """
    if tracking.uri is None:
        return f"sqlite:///{folder.absolute()}/tracking/mlflow.db"
    return _checked(tracking.uri)


def artifact_location(folder: Path, uri: str) -> str | None:
    """Where a new experiment keeps its files; None leaves it to the server.

    Beside an SQLite store, so that sweeps that share one share its artifacts; else in the sweep's folder.
    """
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https"):
        return None
    home = Path(parts.path[1:]).absolute().parent if parts.scheme == "sqlite" else folder.absolute() / "tracking"
    return (home / "artifacts").as_uri()


def without_password(uri: str, text: str | None = None) -> str:
    """The URI as it may be shown, or a text that may quote it."""
    password = urlsplit(uri).password
    shown = uri if text is None else text
    return shown.replace(f":{password}@", ":…@") if password else shown


def _checked(uri: str) -> str:
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError as error:
        raise TrackingError(f"tracking.uri = {uri!r}: {error}; allowed: {FORMS}") from None
    shown = without_password(uri)
    dialect, _, driver = parts.scheme.partition("+")
    if parts.scheme == "sqlite":
        if parts.netloc or len(parts.path) < 2 or parts.path.endswith("/"):
            raise TrackingError(
                f"tracking.uri = {shown!r}: names no file; sqlite:///a/b.db is relative, sqlite:////a/b.db absolute"
            )
    elif parts.scheme in ("http", "https") or dialect == "postgresql":
        if not parts.hostname or port == 0:
            raise TrackingError(f"tracking.uri = {shown!r}: names no host; allowed: {FORMS}")
        drivers = (driver,) if driver else POSTGRESQL_DRIVERS
        if dialect == "postgresql" and not any(importlib.util.find_spec(name) for name in drivers):
            raise TrackingError(
                f"tracking.uri = {shown!r}: needs the Python package {' or '.join(drivers)}, "
                "which is not installed: pip install 'psycopg[binary]'"
            )
    else:
        raise TrackingError(f"tracking.uri = {shown!r}: not a store medoid can use; allowed: {FORMS}")
    return uri
