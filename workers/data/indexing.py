"""What must be known of images that are streamed, before they are: that they can be read, and what they are."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from selection.randomness import draw_words
from workers.data.files import ImageFiles
from workers.data.images import (
    Floats,
    ImageData,
    Labels,
    StreamedSet,
    channel_statistics,
    count_levels,
    smallest_draws,
)
from workers.data.pictures import header_size, read_file, read_scaled, scaled_size

SAMPLE = 2_000  # training images that mean and deviation are taken from
_SAMPLE_SEED, _SAMPLE_DRAW = 2_022, 0  # the same sample whatever a trial's seed
_CHUNK = 64  # files a thread reads at a time
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Index:
    """What an entry of the cache holds of streamed data: see `ImageData`."""

    fingerprint: str
    mean: Floats
    std: Floats
    least: tuple[int, int]  # height of the lowest image and width of the narrowest one, scaled as they are streamed

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        plain = {"mean": self.mean.tolist(), "std": self.std.tolist(), "least": list(self.least)}
        return {"fingerprint": self.fingerprint, **plain}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Index":
        """From plain data."""
        mean, std = (np.array(data[name], np.float32) for name in ("mean", "std"))
        height, width = data["least"]
        return cls(data["fingerprint"], mean, std, (height, width))


def make_index(files: ImageFiles, image_size: int | None) -> Index:
    """Read every file once, and decode a sample of them.

    The fingerprint is a hash of the classes and, in the order of the ids, of each file's label and bytes: not of
    names, dates or folders. Every header is checked too. That costs one pass over the files, bound by the disk or by
    some 0.5 to 2 GB/s a core of hashing: seconds for Caltech256's 1.2 GB, minutes to an hour for ImageNet's 150 GB.
    Mean and deviation are those of all pixels of 2,000 training images, a fixed draw, scaled as they are streamed.
    Raises DataError for the first file that is no image, or has more than 8 bits a channel.
    """
    paths = [files.root / stamp.path for stamp in files.stamps]

    def look(row: int) -> tuple[bytes, tuple[int, int]]:
        data = read_file(paths[row])
        return hashlib.sha256(data).digest(), scaled_size(*header_size(paths[row], data), image_size)

    header = {"classes": files.classes, "counts": [len(part.labels) for part in (files.train, files.test)]}
    digest = hashlib.sha256(json.dumps(header).encode())
    heights, widths = [], []
    for content, (height, width) in _each(look, range(len(paths))):
        digest.update(content)
        heights.append(height)
        widths.append(width)
    for part in (files.train, files.test):
        digest.update(part.labels.astype("<i8").tobytes())
    mean, std = channel_statistics(_levels(files, image_size))
    return Index(digest.hexdigest()[:16], mean, std, (min(heights), min(widths)))


def streamed_data(files: ImageFiles, image_size: int | None, index: Index) -> ImageData:
    """The files as a data set that is read while it is used."""
    train, test = (
        StreamedSet(
            root=files.root,
            paths=np.array([os.fsencode(stamp.path) for stamp in part.stamps]),
            labels=part.labels,
            shorter=image_size,
            least=index.least,
        )
        for part in (files.train, files.test)
    )
    return ImageData(train, test, files.classes, index.fingerprint, index.mean, index.std)


def _levels(files: ImageFiles, image_size: int | None) -> Labels:
    rows = np.arange(len(files.train.labels), dtype=np.int64)
    sample = smallest_draws(draw_words(_SAMPLE_SEED, "corruption", _SAMPLE_DRAW, rows), rows, SAMPLE)

    def levels(row: int) -> Labels:
        return count_levels(read_scaled(files.root / files.train.stamps[row].path, image_size))

    total = np.zeros((3, 256), np.int64)
    for counts in _each(levels, sample.tolist()):
        total += counts
    return total


def _each(work: Callable[[int], T], rows: Sequence[int]) -> Iterator[T]:
    """What `work` gives for each row, in order, by one thread a core: hashing and decoding leave Python's lock."""

    def chunk(start: int) -> list[T]:
        return [work(row) for row in rows[start : start + _CHUNK]]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for found in pool.map(chunk, range(0, len(rows), _CHUNK)):
            yield from found
