"""Data that lie in S3: below a prefix, or in one object that is an archive."""

from collections.abc import Callable
from pathlib import Path

from specs.places import is_archive
from workers.data import objects
from workers.data.archives import checked_name, unpack
from workers.data.origins import SUM, Origin, check_sum, digest
from workers.data.pictures import DataError
from workers.storage.bucket import Bucket, split_uri


def origin(root: str, endpoint: str | None, reached: bool = False) -> Origin:
    """What a data set's root in S3 names. Raises DataError where nothing is there, StorageError."""
    name, key = split_uri(root)
    bucket = Bucket(name, endpoint, "dataset.root", reached)
    return _ArchiveInS3(bucket, key) if is_archive(root) else _FolderInS3(bucket, key)


class _FolderInS3:
    """Files below a prefix."""

    def __init__(self, bucket: Bucket, prefix: str):
        self.bucket, self.prefix, self.place = bucket, prefix, f"s3://{bucket.name}/{prefix}"
        self.there = objects.listed(bucket, prefix)
        if not self.there:
            raise DataError(f"dataset.root: nothing lies below {self.place}/")
        self.size = sum(one.size for one in self.there)

    def identity(self) -> str:
        return digest(self.there)

    def bring(self, folder: Path, advance: Callable[[int], None]) -> None:
        start = len(self.prefix) + 1 if self.prefix else 0
        wanted = [(one, folder.joinpath(*checked_name(one.key[start:], self.place).parts)) for one in self.there]
        objects.bring(self.bucket, wanted, advance)


class _ArchiveInS3:
    """One object that is an archive."""

    def __init__(self, bucket: Bucket, key: str):
        found = objects.found(bucket, key)
        if found is None:
            raise DataError(f"dataset.root: there is no s3://{bucket.name}/{key}")
        self.bucket, self.found, self.place = bucket, found, f"s3://{bucket.name}/{key}"
        self.size = 2 * found.size  # fetched, then unpacked

    def identity(self) -> str:
        return digest([self.found])

    def bring(self, folder: Path, advance: Callable[[int], None]) -> None:
        archive = folder.parent / f".{folder.name}-{self.found.key.rsplit('/', 1)[-1]}"
        try:
            objects.bring(self.bucket, [(self.found, archive)], advance)
            expected = objects.read_small(self.bucket, self.found.key + SUM)
            if expected is not None:
                check_sum(archive, self.place, expected)
            unpack(archive, folder, self.place, advance)
        finally:
            archive.unlink(missing_ok=True)
