"""Data that lies in one file an image: found by a layout, then decoded into memory or streamed."""

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from specs.dataset import LARGEST_IN_MEMORY
from workers.data.images import Decoded, ImageSet, Labels
from workers.data.pictures import DataError, header_size, read_square
from workers.data.source import Stamp
from workers.memory import memory_here

_CHUNK = 256  # files a thread decodes at a time


@dataclass(frozen=True, eq=False)
class Listed:
    """Files in the order of their ids, and their labels int64 (n,)."""

    stamps: tuple[Stamp, ...]
    labels: Labels


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """A training and a test set that were found below `root`, and not read yet. Made by `workers.data.layouts`."""

    root: Path
    classes: tuple[str, ...]
    train: Listed
    test: Listed

    @property
    def stamps(self) -> tuple[Stamp, ...]:
        """All files, those of train first."""
        return self.train.stamps + self.test.stamps

    def streamed(self, image_size: int | None) -> bool:
        """Whether the images are too large for memory: by `image_size`, without it by the first training image's."""
        largest = image_size or max(header_size(self.root / self.train.stamps[0].path))
        return largest > LARGEST_IN_MEMORY

    def decode(self, image_size: int | None) -> Decoded:
        """Read all images into memory, in parallel; a set of only 8-bit grey files gets one channel.

        All others become RGB; transparency is dropped. Raises DataError for the first file (in listing order)
        that is unreadable, has more than 8 bits a channel, or another size than the first without `image_size`;
        and for more images than memory holds.
        """
        files = [self.root / stamp.path for stamp in self.stamps]
        shape = read_square(files[0], image_size)[0].shape
        needed, there = len(files) * math.prod(shape), memory_here()
        if needed > there:
            raise DataError(
                f"{self.root}: {len(files):,} images of {shape[1]}x{shape[0]} pixels take {needed / 2**30:,.1f} GiB of "
                f"memory; there are {there / 2**30:,.1f} GiB; set dataset.image_size to less, or above "
                f"{LARGEST_IN_MEMORY} to stream them"
            )
        images = np.empty((len(files), *shape), np.uint8)
        grey = np.empty(len(files), bool)

        def decode_chunk(start: int) -> None:
            for row in range(start, min(start + _CHUNK, len(files))):
                pixels, grey[row] = read_square(files[row], image_size)
                if pixels.shape != shape:
                    raise DataError(
                        f"{files[row]}: {pixels.shape[1]}x{pixels.shape[0]} pixels (width x height), but "
                        f"{files[0]} has {shape[1]}x{shape[0]}; all images must have one size: "
                        "set dataset.image_size to resize them"
                    )
                images[row] = pixels

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in pool.map(decode_chunk, range(0, len(files), _CHUNK)):
                pass  # raises what a chunk raised
        if grey.all():
            images = np.ascontiguousarray(images[..., :1])
        n = len(self.train.labels)
        return Decoded(
            train=ImageSet(images[:n], self.train.labels),
            test=ImageSet(images[n:], self.test.labels),
            classes=self.classes,
        )
