"""What was read of data, on disk: a node decodes once, and all of its processes share the pages.

    <cache>/<data set>-<hash of its root>.lock
    <cache>/<data set>-<hash of its root>/<image size>-<key>/   meta.json, train_images.npy, train_labels.npy, …
    <cache>/<data set>-<hash of its root>/stream-<image size>-<key>/   meta.json: of images that are not decoded here

The key covers name, size and time of every file, so a changed folder is read anew; the entry it replaces is removed.
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from workers.data.images import ImageData, ImageSet
from workers.data.indexing import Index
from workers.data.pictures import DataError
from workers.data.source import Stamp

T = TypeVar("T")

_FORMAT = 2  # of an entry, and of what is decoded into it
_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """$MEDOID_CACHE, else ~/.cache/medoid."""
    return Path(os.environ.get("MEDOID_CACHE") or "~/.cache/medoid").expanduser()


@dataclass(frozen=True)
class Format(Generic[T]):
    """How something is kept in an entry of the cache.

    name   stands in the entry's name: entries of different formats live side by side
    write  writes files into a folder, and gives what else is to be kept, as JSON
    read   takes the folder and what `write` gave
    """

    name: str
    write: Callable[[Path, T], dict[str, Any]]
    read: Callable[[Path, dict[str, Any]], T]


class DataCache:
    """What is kept of one data set at one place. Safe to use from several processes of a node."""

    def __init__(self, folder: Path, name: str, root: Path):
        self.folder = folder
        self.place = folder / f"{name}-{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}"

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

    def get(self, stamps: Sequence[Stamp], form: Format[T], make: Callable[[], T]) -> T:
        """What is kept of these files; where there is no whole entry, it is made and kept, while others wait.

        Raises what `make` raises, and DataError where the cache cannot be written.
        """
        entry = self._entry(stamps, form)
        found = self._read(entry, form)
        if found is not None:
            return found
        with self.lock():
            found = self._read(entry, form)  # another process may have made it meanwhile
            if found is None:
                self._write(entry, form, make())
                found = self._read(entry, form)
        if found is None:
            raise DataError(f"the cache {self.folder} loses what is written to it; set MEDOID_CACHE to another folder")
        return found

    def _read(self, entry: Path, form: Format[T]) -> T | None:
        if not entry.is_dir():
            return None
        try:
            meta = json.loads((entry / "meta.json").read_text())
            for name, size in meta["bytes"].items():
                found = (entry / name).stat().st_size
                if found != size:
                    raise ValueError(f"{name} has {found} bytes, not {size}")
            return form.read(entry, meta)
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("cache entry %s is damaged and will be made anew: %s", entry, error)
            return None

    def _write(self, entry: Path, form: Format[T], value: T) -> None:
        """Written aside, flushed, renamed."""
        try:
            self.place.mkdir(exist_ok=True)
            self._remove_outdated(form.name)
            aside = Path(tempfile.mkdtemp(prefix=".", dir=self.place))
            try:
                meta = form.write(aside, value)
                sizes = {file.name: file.stat().st_size for file in aside.iterdir()}
                (aside / "meta.json").write_text(json.dumps({"bytes": sizes, **meta}))
                os.chmod(aside, 0o755)
                os.rename(aside, entry)
            except BaseException:
                shutil.rmtree(aside, ignore_errors=True)
                raise
        except OSError as error:
            raise self._unusable(error) from error

    def _remove_outdated(self, name: str) -> None:
        # Processes that have an old entry mapped keep its pages: unlinked files live until they are closed.
        for old in self.place.iterdir():
            if old.name.startswith((".", f"{name}-")):
                shutil.rmtree(old)

    def _entry(self, stamps: Sequence[Stamp], form: Format[T]) -> Path:
        digest = hashlib.sha256(f"{_FORMAT}".encode())
        for stamp in stamps:
            digest.update(os.fsencode(f"\0{stamp.path}\0{stamp.size}\0{stamp.mtime_ns}"))
        return self.place / f"{form.name}-{digest.hexdigest()[:16]}"

    def _unusable(self, error: OSError) -> DataError:
        return DataError(
            f"the cache {self.folder} cannot be written: {error.strerror or error}; "
            "set MEDOID_CACHE to a folder that can"
        )


def decoded_images(image_size: int | None, variant: str) -> Format[ImageData]:
    """Images in memory, of this size, mapped from disk. `variant` tells selections of the same files apart."""
    return Format(f"{variant}{image_size or 'native'}", _write, _open)


def stream_index(image_size: int | None, variant: str) -> Format[Index]:
    """What is known of images that are streamed in this size."""
    name = f"{variant}stream-{image_size or 'native'}"
    return Format(name, lambda _, index: index.to_json(), lambda _, meta: Index.from_json(meta))


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


def _write(folder: Path, data: ImageData) -> dict[str, Any]:
    assert isinstance(data.train, ImageSet)
    assert isinstance(data.test, ImageSet)
    arrays: tuple[np.ndarray[Any, Any], ...] = (
        data.train.images,
        data.train.labels,
        data.test.images,
        data.test.labels,
    )
    for name, array in zip(_ARRAYS, arrays, strict=True):
        with open(folder / f"{name}.npy", "wb") as file:
            np.save(file, array)
            file.flush()
            os.fsync(file.fileno())
    return {
        "classes": data.classes,
        "fingerprint": data.fingerprint,
        "mean": data.mean.tolist(),
        "std": data.std.tolist(),
    }
