"""Unpacking archives of data, without believing them: only files and folders, only below where they are unpacked."""

import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from workers.data.pictures import DataError

_COPIED = 2**20  # bytes at a time
_BLOCK = 512  # of tar
_DAMAGES = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError)


def unpack(archive: Path, folder: Path, place: str, advance: Callable[[int], None]) -> None:
    """Unpack an archive into an empty folder; `advance` is told of bytes of the archive as they are read.

    place  what the user calls it, for errors

    Raises DataError for one that is damaged or cut short, that would fill the disk, and that holds anything but files
    and folders below its own: absolute names, `..`, links, devices.
    """
    try:
        with _Counted(archive, advance) as file:
            members = _zip(file, place) if archive.name.lower().endswith(".zip") else _tar(file, place)
            for name, content in members:
                path = folder.joinpath(*checked_name(name, place).parts)
                if content is None:
                    path.mkdir(parents=True, exist_ok=True)
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                with content, open(path, "xb") as sink:  # x: of two files of one name, which is meant?
                    shutil.copyfileobj(content, sink, _COPIED)
    except _DAMAGES as error:
        if isinstance(error, FileExistsError):
            raise DataError(f"{place}: holds {Path(error.filename).relative_to(folder)} twice") from error
        if isinstance(error, OSError) and error.errno is not None:  # the system's, not a decompressor's
            raise DataError(f"{place}: cannot be unpacked into {folder.parent}: {error.strerror}") from error
        raise DataError(f"{place}: damaged or cut short: {error or type(error).__name__}") from error


def _tar(file: "_Counted", place: str) -> Iterator[tuple[str, IO[bytes] | None]]:
    with tarfile.open(fileobj=file, mode="r:*") as tar:  # type: ignore[call-overload]
        for member in tar:
            if not (member.isreg() or member.isdir()):
                kind = "a link" if member.issym() or member.islnk() else "a device or a pipe"
                raise DataError(f"{place}: {member.name!r} is {kind}; only files and folders may be in an archive")
            yield member.name, tar.extractfile(member) if member.isreg() else None
        if isinstance(tar.fileobj, _Counted):  # not compressed: nothing else tells that members are missing
            tar.fileobj.seek(tar.offset)
            if tar.fileobj.read(_BLOCK) != bytes(_BLOCK):
                raise tarfile.ReadError("no end of archive")
        while tar.fileobj.read(_COPIED):  # to the end: a compressed one has its checksum there
            pass


def _zip(file: "_Counted", place: str) -> Iterator[tuple[str, IO[bytes] | None]]:
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            mode = member.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                kind = "a link" if stat.S_ISLNK(mode) else "a device or a pipe"
                raise DataError(f"{place}: {member.filename!r} is {kind}; only files and folders may be in an archive")
            yield member.filename, None if member.is_dir() else archive.open(member)


def checked_name(name: str, place: str) -> PurePosixPath:
    """A name as a relative path. Raises DataError for one that leads out of the folder it is meant for."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise DataError(f"{place}: {name!r} leads out of the folder it is unpacked into: refused")
    return path


class _Counted:
    """A file that tells how far it has been read."""

    def __init__(self, path: Path, advance: Callable[[int], None]):
        self._file = open(path, "rb")  # noqa: SIM115 - closed by the context
        self._advance, self._furthest = advance, 0
        self.name = str(path)

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        place = self._file.tell()
        if place > self._furthest:
            self._advance(place - self._furthest)
            self._furthest = place
        return data

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(place, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "_Counted":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
