"""Where the images of each data set of files lie, as the sets are distributed, and which are trained on."""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from specs.dataset import Dataset
from workers.data.files import ImageFiles, Listed
from workers.data.pictures import SUFFIXES, DataError
from workers.data.source import Stamp

CALTECH_TRAIN = 60  # images of each class, the first by name
_CLUTTER = "257.clutter"
Entry = os.DirEntry[str]


def find_files(dataset: Dataset, root: Path) -> ImageFiles:
    """List the files of a data set below `root`; reads no image. Names that start with a dot are left out.

    Costs a status of every file: seconds for ImageNet's 1.3 million. Raises DataError for another layout, for
    classes that are empty or stand on one side only, for fewer than two, and for files that are no images.
    """
    if not root.is_dir():
        raise DataError(f"dataset.root: {root} is not a folder")
    return _LAYOUTS[dataset.name](dataset, root)


def _image_folder(_: Dataset, root: Path) -> ImageFiles:
    return _class_folders(root, "test")


def _imagenet(_: Dataset, root: Path) -> ImageFiles:
    """train/<wnid>/* and val/<wnid>/*: label k is the k-th wnid, as everywhere."""
    return _class_folders(root, "val")


def _class_folders(root: Path, test: str) -> ImageFiles:
    """train/<class>/* and <test>/<class>/*."""
    folders = {split: _folders(root, split) for split in ("train", test)}
    for here, there in (("train", test), (test, "train")):
        lonely = [name for name in folders[here] if name not in folders[there]]
        if lonely:
            raise DataError(
                f"{root / here}: class {_names(lonely)} has no folder in {root / there}; "
                f"train/ and {test}/ need the same classes"
            )
    classes = tuple(folders["train"])
    _check_number(root / "train", classes)
    listed = (_listed(root, (_images(folder) for folder in folders[split].values())) for split in ("train", test))
    return ImageFiles(root, classes, *listed)


def _caltech256(dataset: Dataset, root: Path) -> ImageFiles:
    """256_ObjectCategories/NNN.name/*.jpg: of each class the first 60 by name to train on, the others to test.

    As in the paper's published code, 257.clutter is a class, unless the spec leaves it out. What is not a .jpg is
    passed over: the distributed archive holds a stray folder (056.dog/greg) and a stray file (198.spider/RENAME2).
    """
    inner = _inner(root, ("256_ObjectCategories", "caltech256/256_ObjectCategories"))
    folders = [entry for entry in _entries(inner) if dataset.clutter or entry.name != _CLUTTER]
    wrong = [entry.name for entry in folders if not entry.is_dir() or not re.fullmatch(r"\d{3}\..+", entry.name)]
    if wrong:
        raise DataError(f"{inner}: {_names(wrong)} is not a class folder, such as 001.ak47")
    names = tuple(entry.name for entry in folders)
    _check_number(inner, names)
    train, test = [], []
    for folder in folders:
        images = [entry for entry in _entries(Path(folder.path)) if entry.name.endswith(".jpg")]
        if len(images) <= CALTECH_TRAIN:
            raise DataError(
                f"{folder.path}: {len(images)} .jpg images; more than {CALTECH_TRAIN} are needed: the first "
                f"{CALTECH_TRAIN} of each class are trained on, the others are tested on"
            )
        train.append(images[:CALTECH_TRAIN])
        test.append(images[CALTECH_TRAIN:])
    classes = tuple(name.split(".", 1)[1] for name in names)
    return ImageFiles(inner, classes, _listed(inner, train), _listed(inner, test))


def _tiny_imagenet(_: Dataset, root: Path) -> ImageFiles:
    """train/<wnid>/images/*.JPEG, val/images/*.JPEG with val/val_annotations.txt, wnids.txt and words.txt.

    Labels are numbers in the sorted list of wnids; classes are called by their first word in words.txt.
    """
    inner = _inner(root, ("wnids.txt", "tiny-imagenet-200/wnids.txt")).parent
    wnids = sorted(line.strip() for line in _lines(inner / "wnids.txt") if line.strip())
    _check_number(inner / "wnids.txt", wnids)
    if strange := [wnid for wnid in wnids if not re.fullmatch(r"\w+", wnid)]:  # "../other" would lead out of the folder
        raise DataError(f"{inner / 'wnids.txt'}: {_names(strange)}: should be names of folders, such as n01443537")
    train = _listed(inner, (_images(inner / "train" / wnid / "images") for wnid in wnids))
    of_class: dict[str, list[Entry]] = {wnid: [] for wnid in wnids}
    annotations = inner / "val" / "val_annotations.txt"
    found = {entry.name: entry for entry in _images(inner / "val" / "images")}
    for number, line in enumerate(_lines(annotations), 1):
        name, wnid, *_box = [*line.split("\t"), ""]
        if name not in found or wnid not in of_class:
            what = f"no image {name!r} in {inner / 'val/images'}" if name not in found else f"no class {wnid!r}"
            raise DataError(f"{annotations}, line {number}: {what}")
        of_class[wnid].append(found.pop(name))
    if found:
        raise DataError(f"{annotations}: says nothing of {_names(found)}")
    return ImageFiles(inner, _first_words(inner / "words.txt", wnids), train, _listed(inner, of_class.values()))


_LAYOUTS: dict[str, Callable[[Dataset, Path], ImageFiles]] = {
    "image_folder": _image_folder,
    "caltech256": _caltech256,
    "tiny_imagenet": _tiny_imagenet,
    "imagenet": _imagenet,
}


def _first_words(path: Path, wnids: list[str]) -> tuple[str, ...]:
    words = dict(line.split("\t", 1) for line in _lines(path) if "\t" in line)
    unknown = [wnid for wnid in wnids if wnid not in words]
    if unknown:
        raise DataError(f"{path}: says nothing of {_names(unknown)}")
    names = [words[wnid].split(",")[0].strip() for wnid in wnids]
    return tuple(
        name if names.count(name) == 1 else f"{name} ({wnid})" for name, wnid in zip(names, wnids, strict=True)
    )


def _inner(root: Path, places: tuple[str, ...]) -> Path:
    """The first of several places below the root that is there."""
    for place in places:
        if (root / place).exists():
            return root / place
    raise DataError(f"dataset.root: {root} holds neither {' nor '.join(places)}")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{path}: cannot be read: {reason}") from error


def _folders(root: Path, split: str) -> Mapping[str, Path]:
    if not (root / split).is_dir():
        others = {"train": "test or val", "test": "train", "val": "train"}[split]
        hint = "; val/ is there: rename it" if split == "test" and (root / "val").is_dir() else ""
        raise DataError(f"{root}: no folder {split}/ beside {others}; one folder a class should stand in each{hint}")
    entries = _entries(root / split)
    stray = [entry.name for entry in entries if not entry.is_dir()]
    if stray:
        raise DataError(f"{root / split}: {_names(stray)} is not a class folder; only folders may stand here")
    return {entry.name: Path(entry.path) for entry in entries}


def _images(folder: Path) -> list[Entry]:
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
    return entries


def _listed(root: Path, classes: Iterable[list[Entry]]) -> Listed:
    """The files of each class in turn, labelled 0, 1, …"""
    stamps: list[Stamp] = []
    sizes: list[int] = []
    for entries in classes:
        stamps.extend(Stamp.of(entry.path.removeprefix(f"{root}{os.sep}"), entry.stat()) for entry in entries)
        sizes.append(len(entries))
    return Listed(tuple(stamps), np.repeat(np.arange(len(sizes), dtype=np.int64), sizes))


def _entries(folder: Path) -> list[Entry]:
    try:
        with os.scandir(folder) as found:
            return sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror}") from error


def _check_number(where: Path, classes: Iterable[str]) -> None:
    names = list(classes)
    if len(names) < 2:
        raise DataError(
            f"{where}: one-class data: at least two class folders are needed, got {_names(names) or 'none'}"
        )


def _names(names: Iterable[str]) -> str:
    """Up to five names, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - 5} more" if len(every) > 5 else ""
    return ", ".join(repr(name) for name in every[:5]) + more
