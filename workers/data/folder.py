"""Images in folders: `root`/train/<class>/* and `root`/test/<class>/*."""

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from workers.data.images import DataError, Decoded, ImageSet, Pixels
from workers.data.source import Stamp

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
# Wider pixels would be clipped to 8 bits on the way to RGB.
_EIGHT_BIT_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})
_CHUNK = 256  # files a thread decodes at a time


@dataclass(frozen=True)
class ImageFolder:
    """The files of an image folder, sorted by class and name. Made by `scan`."""

    root: Path
    classes: tuple[str, ...]
    train: tuple[Stamp, ...]
    test: tuple[Stamp, ...]
    image_size: int | None

    @property
    def stamps(self) -> tuple[Stamp, ...]:
        """All files, those of train first."""
        return self.train + self.test

    @classmethod
    def scan(cls, root: Path, image_size: int | None) -> "ImageFolder":
        """List the files; reads none of them. Names that start with a dot are left out.

        Raises DataError for a missing folder, a class that is missing on one side or empty, fewer than two
        classes, and files that are no images.
        """
        if not root.is_dir():
            raise DataError(f"dataset.root: {root} is not a folder")
        folders = {split: _class_folders(root, split) for split in ("train", "test")}
        for here, there in (("train", "test"), ("test", "train")):
            lonely = [name for name in folders[here] if name not in folders[there]]
            if lonely:
                raise DataError(
                    f"{root / here}: class {_names(lonely)} has no folder in {root / there}; "
                    "train/ and test/ need the same classes"
                )
        classes = tuple(folders["train"])
        if len(classes) < 2:
            raise DataError(
                f"{root / 'train'}: one-class data: at least two class folders are needed, "
                f"got {_names(classes) or 'none'}"
            )
        train, test = (_stamps(root, split, folders[split]) for split in ("train", "test"))
        return cls(root, classes, train, test, image_size)

    def decode(self) -> Decoded:
        """Read all images, in parallel; a set of only 8-bit grey files gets one channel.

        All others become RGB; transparency is dropped. Raises DataError for the first file (in listing order)
        that is unreadable, has more than 8 bits a channel, or another size than the first without `image_size`.
        """
        files = [self.root / stamp.path for stamp in self.stamps]
        shape = _decode(files[0], self.image_size)[0].shape
        images = np.empty((len(files), *shape), np.uint8)
        grey = np.empty(len(files), bool)

        def decode_chunk(start: int) -> None:
            for row in range(start, min(start + _CHUNK, len(files))):
                pixels, grey[row] = _decode(files[row], self.image_size)
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
        n = len(self.train)
        return Decoded(
            train=ImageSet(images[:n], self._labels(self.train)),
            test=ImageSet(images[n:], self._labels(self.test)),
            classes=self.classes,
        )

    def _labels(self, stamps: tuple[Stamp, ...]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        index = {name: label for label, name in enumerate(self.classes)}
        return np.array([index[stamp.path.split(os.sep)[1]] for stamp in stamps], np.int64)


def _class_folders(root: Path, split: str) -> Mapping[str, Path]:
    if not (root / split).is_dir():
        raise DataError(
            f"{root}: no folder {split}/; image_folder needs train/ and test/ with one folder a class in each"
        )
    entries = _entries(root / split)
    stray = [entry.name for entry in entries if not entry.is_dir()]
    if stray:
        raise DataError(f"{root / split}: {_names(stray)} is not a class folder; only folders may stand here")
    return {entry.name: Path(entry.path) for entry in entries}


def _stamps(root: Path, split: str, folders: Mapping[str, Path]) -> tuple[Stamp, ...]:
    stamps: list[Stamp] = []
    for name, folder in folders.items():
        entries = _entries(folder)
        if not entries:
            raise DataError(f"{folder}: empty class: the folder holds no images")
        stray = [
            entry.name
            for entry in entries
            if os.path.splitext(entry.name)[1].lower() not in SUFFIXES or not entry.is_file()
        ]
        if stray:
            raise DataError(
                f"{folder}: {_names(stray)} is not an image file; only {', '.join(sorted(SUFFIXES))} may stand here"
            )
        stamps.extend(Stamp.of(os.path.join(split, name, entry.name), entry.stat()) for entry in entries)
    return tuple(stamps)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror}") from error


def _decode(path: Path, image_size: int | None) -> tuple[Pixels, bool]:
    """RGB pixels (H, W, 3), and whether the file is 8-bit grey."""
    try:
        with Image.open(path) as image:
            image.load()
    except Exception as error:  # Pillow's decoders raise SyntaxError, struct.error, zlib.error and more
        raise DataError(f"{path}: unreadable image: {error or type(error).__name__}") from error
    if image.mode not in _EIGHT_BIT_MODES:
        raise DataError(
            f"{path}: pixels of Pillow's mode {image.mode}; only 8 bits a channel can be used: "
            f"{', '.join(sorted(_EIGHT_BIT_MODES))}"
        )
    rgb = image.convert("RGB")
    if image_size is not None:
        rgb = rgb.resize((image_size, image_size), Image.Resampling.BILINEAR)
    return np.asarray(rgb), image.mode == "L"


def _names(names: Iterable[str]) -> str:
    """Up to five names, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - 5} more" if len(every) > 5 else ""
    return ", ".join(repr(name) for name in every[:5]) + more
