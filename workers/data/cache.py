"""Decoded data on disk, so that a node decodes once and all of its processes share the pages.

    <cache>/<data set>-<hash of its root>.lock
    <cache>/<data set>-<hash of its root>/<image size>-<key>/   meta.json, train_images.npy, train_labels.npy, …

The key covers name, size and time of every file, so a changed folder is decoded anew; the entry it replaces is removed.
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from workers.data.images import DataError, ImageData, ImageSet
from workers.data.source import Source, Stamp

_FORMAT = 1  # of an entry, and of what is decoded into it
_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """$MEDOID_CACHE, else ~/.cache/medoid."""
    return Path(os.environ.get("MEDOID_CACHE") or "~/.cache/medoid").expanduser()


class DataCache:
    """The cached form of one data set at one place and image size. Safe to use from several processes of a node."""

    def __init__(self, folder: Path, name: str, root: Path, image_size: int | None):
        self.folder = folder
        self.place = folder / f"{name}-{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}"
        self._prefix = f"{image_size or 'native'}-"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Wait for, and hold, the right to write here. It ends with the process. Raises DataError."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = open(self.place.with_suffix(".lock"), "a")  # noqa: SIM115 - open for as long as it is held
        except OSError as error:
            raise self._unusable(error) from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def read(self, source: Source) -> ImageData | None:
        """The cached form of these files, its images mapped from disk; None where there is no whole one."""
        entry = self._entry(source.stamps)
        if not entry.is_dir():
            return None
        try:
            meta = json.loads((entry / "meta.json").read_text())
            for name, size in meta["bytes"].items():
                found = (entry / f"{name}.npy").stat().st_size
                if found != size:
                    raise ValueError(f"{name}.npy has {found} bytes, not {size}")
            return _open(entry, meta)
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("cache entry %s is damaged and will be made anew: %s", entry, error)
            return None

    def write(self, source: Source, data: ImageData) -> None:
        """Store what was decoded from these files: written aside, flushed, renamed. Needs the lock.

        Raises DataError where the cache cannot be written.
        """
        entry = self._entry(source.stamps)
        try:
            self.place.mkdir(exist_ok=True)
            self._remove_outdated()
            aside = Path(tempfile.mkdtemp(prefix=".", dir=self.place))
            try:
                _write(aside, data)
                os.chmod(aside, 0o755)
                os.rename(aside, entry)
            except BaseException:
                shutil.rmtree(aside, ignore_errors=True)
                raise
        except OSError as error:
            raise self._unusable(error) from error

    def _remove_outdated(self) -> None:
        # Processes that have an old entry mapped keep its pages: unlinked files live until they are closed.
        for old in self.place.iterdir():
            if old.name.startswith((".", self._prefix)):
                shutil.rmtree(old)

    def _entry(self, stamps: Sequence[Stamp]) -> Path:
        digest = hashlib.sha256(f"{_FORMAT}".encode())
        for stamp in stamps:
            digest.update(os.fsencode(f"\0{stamp.path}\0{stamp.size}\0{stamp.mtime_ns}"))
        return self.place / f"{self._prefix}{digest.hexdigest()[:16]}"

    def _unusable(self, error: OSError) -> DataError:
        return DataError(
            f"the cache {self.folder} cannot be written: {error.strerror or error}; "
            "set MEDOID_CACHE to a folder that can"
        )


def _open(entry: Path, meta: dict[str, Any]) -> ImageData:
    def images(split: str) -> ImageSet:
        # A plain view of the map: np.memmap's own type would be copied along by every slice.
        pixels = np.load(entry / f"{split}_images.npy", mmap_mode="r").view(np.ndarray)
        return ImageSet(pixels, np.load(entry / f"{split}_labels.npy"))

    return ImageData(
        train=images("train"),
        test=images("test"),
        classes=tuple(meta["classes"]),
        fingerprint=meta["fingerprint"],
        mean=np.array(meta["mean"], np.float32),
        std=np.array(meta["std"], np.float32),
    )


def _write(folder: Path, data: ImageData) -> None:
    arrays: tuple[np.ndarray[Any, Any], ...] = (
        data.train.images,
        data.train.labels,
        data.test.images,
        data.test.labels,
    )
    sizes = {}
    for name, array in zip(_ARRAYS, arrays, strict=True):
        with open(folder / f"{name}.npy", "wb") as file:
            np.save(file, array)
            file.flush()
            os.fsync(file.fileno())
            sizes[name] = file.tell()
    meta = {
        "bytes": sizes,
        "classes": data.classes,
        "fingerprint": data.fingerprint,
        "mean": data.mean.tolist(),
        "std": data.std.tolist(),
    }
    (folder / "meta.json").write_text(json.dumps(meta))
