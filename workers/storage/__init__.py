"""Where results are kept: blobs under names, in a folder or in S3."""

from workers.storage.local import LocalStorage
from workers.storage.opening import open_storage
from workers.storage.protocol import DamagedBlobError, Fence, FencedError, Storage, StorageError, SweepBusyError

__all__ = [
    "DamagedBlobError",
    "Fence",
    "FencedError",
    "LocalStorage",
    "Storage",
    "StorageError",
    "SweepBusyError",
    "open_storage",
]
