"""Objects of S3 as files: brought whole, and checked to be what the server holds."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from botocore.exceptions import ClientError

from workers.data.pictures import DataError
from workers.storage import StorageError
from workers.storage.bucket import Bucket, missing, refuted

_PART = 16 * 2**20  # bytes that are asked for at a time, where the object does not say
_THREADS = 16
_CHUNK = 10_000  # objects that wait for a thread at a time
T = TypeVar("T")
_PLAIN = 32  # hexadecimal digits of an ETag that is an MD5


@dataclass(frozen=True)
class Remote:
    """An object as it was found."""

    key: str
    size: int
    tag: str


def listed(bucket: Bucket, prefix: str) -> list[Remote]:
    """All objects below a prefix, sorted; the empty ones that stand for folders are left out. Raises StorageError."""

    def entries(client: Any) -> list[dict[str, Any]]:
        below = f"{prefix}/" if prefix else ""
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket.name, Prefix=below)
        return [entry for page in pages for entry in page.get("Contents", ())]

    found = _ask(bucket, prefix, entries) or []
    every = (Remote(entry["Key"], entry["Size"], entry["ETag"].strip('"')) for entry in found)
    return sorted((one for one in every if not one.key.endswith("/")), key=lambda one: one.key)


def found(bucket: Bucket, key: str) -> Remote | None:
    """One object, or None where there is none. Raises StorageError."""
    head = _ask(bucket, key, lambda client: client.head_object(Bucket=bucket.name, Key=key))
    return head and Remote(key, head["ContentLength"], head["ETag"].strip('"'))


def read_small(bucket: Bucket, key: str) -> bytes | None:
    """An object's bytes, or None where there is none. Raises StorageError."""
    return _ask(bucket, key, lambda client: bytes(client.get_object(Bucket=bucket.name, Key=key)["Body"].read()))


def bring(bucket: Bucket, wanted: Sequence[tuple[Remote, Path]], advance: Callable[[int], None]) -> None:
    """Bring objects to files that are not there yet, several at a time; `advance` is told of bytes as they arrive.

    Each is compared with its ETag, where that is a checksum (an MD5, or one of the MD5s of its parts), and with its
    size. Raises DataError where it is another by now, or arrives as another; StorageError.
    """
    pool = ThreadPoolExecutor(_THREADS)
    try:
        if len(wanted) == 1:
            _bring(bucket, *wanted[0], advance, pool.map)
            return

        def one(number: int) -> None:
            _bring(bucket, *wanted[number], advance, map)

        for start in range(0, len(wanted), _CHUNK):
            for _ in pool.map(one, range(start, min(start + _CHUNK, len(wanted)))):
                pass  # raises what one of them raised
    finally:
        pool.shutdown(cancel_futures=True)


def _bring(
    bucket: Bucket, remote: Remote, path: Path, advance: Callable[[int], None], each: Callable[..., Any]
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    size = _part_size(bucket, remote)
    with open(path, "xb") as file:
        file.truncate(remote.size)

    def part(start: int) -> tuple[bytes, bool]:
        return _part(bucket, remote, path, start, size, advance)

    parts = list(each(part, range(0, max(remote.size, 1), size)))
    if all(plain for _, plain in parts):  # with keys of the owner's, an ETag is no checksum
        _compare(bucket, remote, path, [digest for digest, _ in parts])


def _part_size(bucket: Bucket, remote: Remote) -> int:
    """How large the parts are that an object was put in, so that its ETag can be computed."""
    if "-" not in remote.tag:
        return max(remote.size, 1) if remote.size <= 4 * _PART else _PART
    asked = {"Bucket": bucket.name, "Key": remote.key, "PartNumber": 1, "IfMatch": remote.tag}
    first = _ask(bucket, remote.key, lambda client: client.head_object(**asked))
    return int(_unchanged(bucket, remote, first)["ContentLength"]) or _PART


def _part(
    bucket: Bucket, remote: Remote, path: Path, start: int, size: int, advance: Callable[[int], None]
) -> tuple[bytes, bool]:
    asked: dict[str, Any] = {"Bucket": bucket.name, "Key": remote.key, "IfMatch": remote.tag}
    if remote.size > size:
        asked["Range"] = f"bytes={start}-{min(start + size, remote.size) - 1}"

    def get(client: Any) -> tuple[bytes, bool]:
        answer = client.get_object(**asked)
        return answer["Body"].read(), answer.get("ServerSideEncryption", "AES256") == "AES256"

    data, plain = _unchanged(bucket, remote, _ask(bucket, remote.key, get))
    if len(data) != min(size, remote.size - start):
        raise DataError(f"s3://{bucket.name}/{remote.key}: {len(data)} bytes came of {min(size, remote.size - start)}")
    handle = os.open(path, os.O_WRONLY)
    try:
        written = 0
        while written < len(data):
            written += os.pwrite(handle, data[written:], start + written)
    finally:
        os.close(handle)
    advance(len(data))
    return hashlib.md5(data, usedforsecurity=False).digest(), plain


def _compare(bucket: Bucket, remote: Remote, path: Path, digests: list[bytes]) -> None:
    if "-" in remote.tag:
        expected = int(remote.tag.rsplit("-", 1)[1])
        whole = f"{hashlib.md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"
        if len(digests) != expected:  # the parts were of several sizes: nothing to compare with
            return
    elif len(remote.tag) == _PLAIN:
        with open(path, "rb") as file:
            whole = digests[0].hex() if len(digests) == 1 else hashlib.file_digest(file, "md5").hexdigest()
    else:
        return
    if whole != remote.tag:
        raise DataError(
            f"s3://{bucket.name}/{remote.key}: what arrived is not what the server holds: its MD5 is {whole}, "
            f"not {remote.tag}"
        )


def _ask(bucket: Bucket, key: str, work: Callable[[Any], T]) -> T | None:
    """What `work` makes of the client; None where there is no such object, or none that is as was asked for."""
    doing = f"s3://{bucket.name}/{key} cannot be read"
    try:
        return bucket.attempt(doing, work)
    except ClientError as error:
        if missing(error) or refuted(error):
            return None
        raise StorageError(f"{doing}: {error}") from error


def _unchanged(bucket: Bucket, remote: Remote, answer: T | None) -> T:
    if answer is None:
        raise DataError(f"s3://{bucket.name}/{remote.key}: was changed while it was fetched; try again")
    return answer
