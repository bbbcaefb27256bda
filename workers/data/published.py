"""MNIST, CIFAR-10 and SVHN, through torchvision. The only module of this package that imports torch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torchvision import datasets

from workers.data.images import Decoded, ImageSet
from workers.data.pictures import DataError
from workers.data.source import Stamp

_DIGITS = tuple(str(digit) for digit in range(10))
Reader = Callable[[Path, bool, bool], tuple[ImageSet, tuple[str, ...]]]


def _mnist(root: Path, train: bool, download: bool) -> tuple[ImageSet, tuple[str, ...]]:
    data = datasets.MNIST(root, train=train, download=download)
    return ImageSet(data.data.numpy()[..., None], data.targets.numpy().astype(np.int64)), _DIGITS


def _cifar10(root: Path, train: bool, download: bool) -> tuple[ImageSet, tuple[str, ...]]:
    data = datasets.CIFAR10(root, train=train, download=download)
    images = np.ascontiguousarray(data.data, np.uint8)
    return ImageSet(images, np.asarray(data.targets, np.int64)), tuple(data.classes)


def _svhn(root: Path, train: bool, download: bool) -> tuple[ImageSet, tuple[str, ...]]:
    data = datasets.SVHN(root, split="train" if train else "test", download=download)
    images = np.ascontiguousarray(data.data.transpose(0, 2, 3, 1), np.uint8)
    return ImageSet(images, data.labels.astype(np.int64)), _DIGITS


_READERS: dict[str, Reader] = {"mnist": _mnist, "cifar10": _cifar10, "svhn": _svhn}
_FILES: dict[str, tuple[str, ...]] = {
    "mnist": tuple(
        f"MNIST/raw/{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
    ),
    "cifar10": tuple(
        f"cifar-10-batches-py/{name}"
        for name in (*(f"data_batch_{batch}" for batch in range(1, 6)), "test_batch", "batches.meta")
    ),
    "svhn": ("train_32x32.mat", "test_32x32.mat"),
}


@dataclass(frozen=True)
class PublishedSet:
    """The files of one of torchvision's sets. Made by `find`."""

    name: str
    root: Path
    stamps: tuple[Stamp, ...]
    download: bool

    @classmethod
    def find(cls, name: str, root: Path, *, download: bool) -> "PublishedSet":
        """The files below `root`; those that are missing are downloaded if `download` allows it.

        Raises DataError where they are missing, or cannot be downloaded. Only one process may download at a time.
        """
        missing = [file for file in _FILES[name] if not (root / file).is_file()]
        if missing and not download:
            raise DataError(
                f"dataset.root: {root} does not hold {name}: looked for {', '.join(missing)}; "
                "dataset.download: true fetches it"
            )
        if missing:
            _read(name, root, download=True)
        stamps = tuple(Stamp.of(file, (root / file).stat()) for file in _FILES[name])
        return cls(name, root, stamps, download)

    def decode(self, image_size: int | None) -> Decoded:
        """Read both sets, and resize them to `image_size`, if that is given.

        Raises DataError where torchvision's checksums or readers refuse a file.
        """
        return _read(self.name, self.root, download=self.download).resized(image_size)


def _read(name: str, root: Path, *, download: bool) -> Decoded:
    try:
        train, classes = _READERS[name](root, True, download)
        test, _ = _READERS[name](root, False, download)
    except ModuleNotFoundError as error:
        raise DataError(f"{name} in {root}: needs the package {error.name}: pip install {error.name}") from error
    except Exception as error:  # torchvision raises RuntimeError, AssertionError, pickle's, scipy's and more
        doing = "downloaded and read" if download else "read"
        raise DataError(f"{name} in {root}: cannot be {doing}: {error or type(error).__name__}") from error
    return Decoded(train, test, classes)
