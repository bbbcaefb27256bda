"""Decoded images with their labels: what every reader gives, and what every worker trains on."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from workers.data.pictures import DataError, Pixels, read_scaled

Labels = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
_SHOWN = 96  # pixels, height and width of an image that is only looked at


@dataclass(frozen=True, eq=False)
class ImageSet:
    """n images and their labels, row by row: `images` uint8 (n, H, W, C), `labels` int64 (n,) in 0..classes-1.

    `images` can be a read-only map of a file that all processes of a node share.
    """

    images: Pixels
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def shown(self, rows: Labels) -> Pixels:
        """Some images to look at: (k, H, W, C)."""
        return self.images[rows]


@dataclass(frozen=True, eq=False)
class StreamedSet:
    """n image files and their labels, read whenever they are needed: `labels` int64 (n,) in 0..classes-1.

    paths    bytes (n,), relative to `root`; one array, so that processes that are forked share its pages
    shorter  pixels that the shorter side is resized to; None: images stay as they are
    least    height of the lowest image of the data set, and width of the narrowest, after that
    """

    root: Path
    paths: npt.NDArray[np.bytes_]
    labels: Labels
    shorter: int | None
    least: tuple[int, int]

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, row: int) -> Pixels:
        """An image: RGB pixels (H, W, 3). Raises DataError, naming the file, where it cannot be decoded."""
        return read_scaled(self.root / os.fsdecode(self.paths[row]), self.shorter)

    def shown(self, rows: Labels) -> Pixels:
        """Some images to look at, their middles in small: (k, 96, 96, 3)."""
        small = [read_scaled(self.root / os.fsdecode(self.paths[row]), _SHOWN) for row in rows]
        tops, lefts = ([(image.shape[axis] - _SHOWN) // 2 for image in small] for axis in (0, 1))
        middles = zip(small, tops, lefts, strict=True)
        return np.stack([image[top : top + _SHOWN, left : left + _SHOWN] for image, top, left in middles])


@dataclass(frozen=True, eq=False)
class Decoded:
    """What a reader gives: both sets, and the names of the classes in label order."""

    train: ImageSet
    test: ImageSet
    classes: tuple[str, ...]

    def resized(self, size: int | None) -> "Decoded":
        """The same with all images bilinearly resized to size x size pixels; as it is for None."""
        if size is None:
            return self
        train, test = (ImageSet(_resize(part.images, size), part.labels) for part in (self.train, self.test))
        return Decoded(train, test, self.classes)


@dataclass(frozen=True, eq=False)
class ImageData:
    """A data set, in memory or streamed. An example's id is its row in `train`.

    `fingerprint`: 16 hexadecimal digits over images, labels and class names; the same wherever the data lies.
    `mean`, `std`: float32 (C,), each channel's over all training pixels scaled to 0..1 (of streamed images: over those
    of a sample). The deviation of a channel that never varies is given as 1, so that normalising turns it into zeros.
    """

    train: ImageSet | StreamedSet
    test: ImageSet | StreamedSet
    classes: tuple[str, ...]
    fingerprint: str
    mean: Floats
    std: Floats

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels; streamed images differ in height and width, and have at least these."""
        if isinstance(self.train, StreamedSet):
            return *self.train.least, 3
        _, height, width, channels = self.train.images.shape
        return height, width, channels


def describe(decoded: Decoded, origin: str) -> ImageData:
    """Check what a reader gave, and add fingerprint and channel statistics.

    `origin` names the data in errors. Raises DataError for labels out of range, for images without labels or
    the other way round, for sets of different image shapes, and for a class without training examples.
    """
    names = decoded.classes
    if len(names) < 2:
        raise DataError(f"{origin}: one-class data: at least two classes are needed, got {list(names)}")
    for split, part in (("train", decoded.train), ("test", decoded.test)):
        if len(part.images) != len(part.labels):
            raise DataError(f"{origin}: {split} has {len(part.images)} images but {len(part.labels)} labels")
        if not len(part):
            raise DataError(f"{origin}: {split} is empty")
        wrong = np.flatnonzero((part.labels < 0) | (part.labels >= len(names)))
        if len(wrong):
            raise DataError(
                f"{origin}: label {part.labels[wrong[0]]} of {split} example {wrong[0]} is out of range; "
                f"allowed: 0 to {len(names) - 1} ({len(wrong)} such labels)"
            )
    if decoded.train.images.shape[1:] != decoded.test.images.shape[1:]:
        raise DataError(
            f"{origin}: training images are {decoded.train.images.shape[1:]} (height, width, channels), "
            f"test images {decoded.test.images.shape[1:]}; set dataset.image_size if only the sizes differ"
        )
    empty = np.flatnonzero(np.bincount(decoded.train.labels, minlength=len(names)) == 0)
    if len(empty):
        raise DataError(f"{origin}: empty class: no training example of {[names[c] for c in empty]}")
    mean, std = channel_statistics(count_levels(decoded.train.images))
    return ImageData(decoded.train, decoded.test, names, _fingerprint(decoded), mean, std)


def smallest_draws(words: npt.NDArray[np.uint64], members: Labels, size: int) -> Labels:
    """The `size` members with the smallest draws, ascending. `words`: one draw for each member; ties go to the
    smaller id, if `members` ascends."""
    return np.sort(members[np.argsort(words, kind="stable")[:size]])


def _resize(images: Pixels, size: int) -> Pixels:
    n, height, width, channels = images.shape
    if (height, width) == (size, size):
        return images
    resized = np.empty((n, size, size, channels), np.uint8)
    for row, image in enumerate(images):
        picture = Image.fromarray(image[..., 0] if channels == 1 else image)
        picture = picture.resize((size, size), Image.Resampling.BILINEAR)
        resized[row] = np.asarray(picture).reshape(size, size, channels)
    return resized


def count_levels(images: Pixels) -> Labels:
    """How often each of the 256 levels occurs in each channel (C, 256) of images (…, C)."""
    channels = range(images.shape[-1])
    return np.stack([np.bincount(images[..., channel].reshape(-1), minlength=256) for channel in channels])


def channel_statistics(levels: Labels) -> tuple[Floats, Floats]:
    """Mean and deviation (C,) of pixels scaled to 0..1, from the counts of their levels (C, 256).

    Counting levels is exact, whatever their order, and needs no float copy of the images.
    """
    values = np.arange(256) / 255
    mean, std = [], []
    for counts in levels:
        share = counts / counts.sum()
        mean.append(share @ values)
        std.append(np.sqrt(share @ (values - mean[-1]) ** 2) if share.max() < 1 else 1.0)
    return np.array(mean, np.float32), np.array(std, np.float32)


def _fingerprint(decoded: Decoded) -> str:
    parts: Sequence[ImageSet] = (decoded.train, decoded.test)
    header = {"classes": decoded.classes, "shapes": [part.images.shape for part in parts]}
    digest = hashlib.sha256(json.dumps(header).encode())
    for part in parts:
        digest.update(np.ascontiguousarray(part.images).data)
        digest.update(part.labels.astype("<i8").tobytes())
    return digest.hexdigest()[:16]
