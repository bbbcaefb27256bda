"""Data that lie in S3 or in an archive: brought to a folder of this node, once for all of its processes.

    <cache>/fetched-<name>-<hash of the root>.lock
    <cache>/fetched-<name>-<hash of the root>/<what was there>/   the files, as they lie there or in the archive

An entry is there whole or not at all. When the data in S3 or the archive change, they are fetched anew, beside the
earlier entry, which running trials may still read; entries that nothing uses may be deleted at any time.
"""

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from specs.dataset import Dataset
from specs.places import brought, in_s3
from workers.data.cache import DataCache
from workers.data.origins import ArchiveFile, Origin
from workers.data.pictures import DataError
from workers.storage import StorageError

_TELL = 5.0  # seconds between words on the progress


def local_root(dataset: Dataset, cache: Path, notify: Callable[[str], None], reached: bool = False) -> Path:
    """The folder of this node that holds a data set; brought there if it is elsewhere, while others wait.

    Costs a look at what is there: one request for an archive in S3, one for every 1,000 files of a prefix; `reached`
    says that the server has answered before, and may be waited for.
    Raises DataError for what is not there, is damaged, changes meanwhile, does not fit on the disk, or is not believed.
    """
    assert dataset.root is not None
    if not brought(dataset.root):
        return Path(dataset.root).expanduser().resolve()
    try:
        origin = _origin(dataset.root, dataset.endpoint, reached)
        store = DataCache(cache, f"fetched-{dataset.name}", Path(f"{dataset.endpoint or ''}/{origin.place}"))
        entry = store.place / origin.identity()
        if not entry.is_dir():
            with store.lock():
                if not entry.is_dir():  # another process may have brought it meanwhile
                    _bring(origin, entry, _Progress(origin.place, origin.size, notify))
    except StorageError as error:
        raise DataError(str(error)) from error
    return _inner(dataset, entry)


def _bring(origin: Origin, entry: Path, progress: "_Progress") -> None:
    """Brought aside, flushed, renamed."""
    place = entry.parent
    try:
        place.mkdir(exist_ok=True)
        for old in place.glob(".*"):  # of a process that was killed: we hold the lock
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        free = shutil.disk_usage(place).free
        if free < origin.size:
            raise DataError(
                f"{progress.what} takes {_gigabytes(origin.size)}, and {place} has {_gigabytes(free)} free; "
                "set MEDOID_CACHE to a folder of a larger disk"
            )
        aside = Path(tempfile.mkdtemp(prefix=".", dir=place))
        try:
            origin.bring(aside, progress.advance)
            os.chmod(aside, 0o755)
            os.sync()  # so that a power failure leaves no entry of empty files
            os.rename(aside, entry)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
    except OSError as error:
        raise DataError(f"{progress.what} cannot be brought to {place}: {error.strerror or error}") from error


def _inner(dataset: Dataset, entry: Path) -> Path:
    """An archive often holds one folder, which holds the data."""
    if dataset.name in ("image_folder", "imagenet") and not (entry / "train").exists():
        below = [path for path in entry.iterdir() if path.is_dir() and (path / "train").is_dir()]
        if len(below) == 1:
            return below[0]
    return entry


def _origin(root: str, endpoint: str | None, reached: bool) -> Origin:
    if not in_s3(root):
        return ArchiveFile(root)
    from workers.data import origins_in_s3  # imports boto3

    return origins_in_s3.origin(root, endpoint, reached)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"


@dataclass
class _Progress:
    """Says how far fetching is, every few seconds; from any thread."""

    what: str
    size: int
    notify: Callable[[str], None]

    def __post_init__(self) -> None:
        self._lock, self._read, self._told = threading.Lock(), 0, time.monotonic()

    def advance(self, count: int) -> None:
        """So many more bytes were read."""
        with self._lock:
            self._read += count
            now = time.monotonic()
            if now - self._told < _TELL:
                return
            self._told = now
            share = self._read / max(self.size, 1)
        self.notify(f"fetching {self.what}: {share:.0%} of {_gigabytes(self.size)}")
