"""Where things lie: folders, and places in S3."""

import re
from urllib.parse import urlsplit

_STORES = "sqlite:///FILE, postgresql://USER@HOST/DATABASE, http://HOST:PORT or https://HOST"
_BUCKET = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"


ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".zip")


def brought(place: str) -> bool:
    """Whether data at a place are brought to each node before they are read: from S3, or out of an archive."""
    return in_s3(place) or is_archive(place)


def is_archive(place: str) -> bool:
    """Whether a path or a URI names an archive, by its suffix."""
    return place.lower().endswith(ARCHIVES)


def in_s3(place: str) -> bool:
    """Whether a place lies in S3."""
    return place.startswith("s3://")


def check_place(place: str, s3_example: str) -> str:
    """A folder or an S3 URI, as it is. Raises ValueError for anything else; never repeats a password."""
    if not place:
        raise ValueError(f"should be a folder, or {s3_example}")
    if "://" not in place:
        return place
    if "@" in place:
        raise ValueError("credentials do not belong into a spec: S3's are read from the environment, ~/.aws or a role")
    if not in_s3(place):
        raise ValueError(f"should be a folder, or {s3_example}; no other kind of URI is known")
    bucket, _, prefix = place.removeprefix("s3://").partition("/")
    if not re.fullmatch(_BUCKET, bucket):
        raise ValueError(
            f"{bucket!r} is no bucket's name: three to 63 lower-case letters, digits, '-' and '.', as in {s3_example}"
        )
    if re.search(r"[?#\s\\]", prefix) or any(
        part in ("", ".", "..") for part in prefix.rstrip("/").split("/") if prefix
    ):
        raise ValueError(f"{prefix!r} is no prefix: names joined by '/', without '.', '..', '?' and '#'")
    return place


def check_tracking(uri: str) -> str:
    """The URI of an MLflow store, as it is. Raises ValueError for what no store can have."""
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{error}; allowed: {_STORES}") from None
    if parts.scheme == "sqlite":
        if parts.netloc or len(parts.path) < 2 or parts.path.endswith("/"):
            raise ValueError("names no file; sqlite:///a/b.db is relative, sqlite:////a/b.db absolute")
    elif parts.scheme in ("http", "https") or parts.scheme.partition("+")[0] == "postgresql":
        if not parts.hostname or port == 0:
            raise ValueError(f"names no host; allowed: {_STORES}")
    else:
        raise ValueError(f"not a store medoid can use; allowed: {_STORES}")
    return uri


def check_endpoint(endpoint: str) -> str:
    """The URL of an S3 server, as it is. Raises ValueError for anything else; never repeats a password."""
    if "@" in endpoint:
        raise ValueError("credentials do not belong into a spec: S3's are read from the environment, ~/.aws or a role")
    try:
        parts = urlsplit(endpoint)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number
        good = False
    if not good or parts.path.strip("/") or parts.query or parts.fragment or re.search(r"\s", endpoint):
        raise ValueError("should be the URL of an S3 server: http://HOST:PORT or https://HOST")
    return endpoint
