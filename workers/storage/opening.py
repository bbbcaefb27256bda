"""From where a spec says its results go to the storage there."""

from workers.storage.local import LocalStorage
from workers.storage.protocol import Storage


def open_storage(uri: str, endpoint: str | None = None) -> Storage:
    """The storage at a folder, or at s3://bucket/prefix; `endpoint`: of an S3 server that is not Amazon's.

    Nothing is asked of the place yet. Raises ValueError for what is neither.
    """
    if "://" not in uri:
        return LocalStorage(uri)
    from workers.storage.s3 import S3Storage  # loads the storage of files alone where that is all that is needed

    return S3Storage(uri, endpoint)
