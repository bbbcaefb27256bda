"""Storage in S3."""

import base64
import contextlib
import hashlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from botocore.exceptions import ClientError

from workers.storage.bucket import Bucket, code, missing, refuted, split_uri
from workers.storage.lease import held, token_and_holder
from workers.storage.protocol import DamagedBlobError, Fence, StorageError, checked_key, replaced

PART = 8 * 2**20  # bytes; larger blobs go in parts
_MOST_PARTS = 10_000  # S3's limit
_THREADS = 4
_READS = 5  # of a blob that does not arrive as it was written
_WRITES = 50  # of one that other processes of the same writer replace at the same time
_SUM = "sha256"  # of the blob, in its metadata


class S3Storage:
    """Blobs as objects below s3://bucket/prefix. S3 shows an object whole or not at all, whatever its size.

    Each request carries an MD5 of its body, which the server compares; each object carries its SHA-256, which `read`
    compares. Credentials are the standard chain's, in each process its own: environment, ~/.aws, the machine's role.

    A writer that was given the right by `sole_writer` looks, before it writes, at the object, then at the lease, and
    then writes on the condition that the object is still the one it saw. So it is the server that decides, no clock:
    a write that set out before another process took over cannot replace what that one wrote since. (One that set out
    before may still arrive after, where the new writer has not written yet; it will be replaced in its turn. Deletes
    look at the lease, and carry no condition.)
    """

    def __init__(self, uri: str, endpoint: str | None = None, fence: Fence | None = None):
        name, self.prefix = split_uri(uri)
        self.uri = f"s3://{name}/{self.prefix}".rstrip("/")
        self.bucket = Bucket(name, endpoint, "storage.path")
        self.fence = fence

    def read(self, key: str) -> bytes:
        doing, place = self._doing(key, "read")

        def get(client: Any) -> tuple[bytes, str | None]:
            answer = client.get_object(**place)
            return answer["Body"].read(), answer["Metadata"].get(_SUM)

        for _ in range(_READS):  # damaged on its way, it arrives whole the next time
            try:
                data, expected = self.bucket.attempt(doing, get)
            except ClientError as error:
                if missing(error):
                    raise FileNotFoundError(f"{self.uri}/{key}") from None
                raise StorageError(f"{doing}: {error}") from error
            if expected is None or expected == hashlib.sha256(data).hexdigest():  # None: put there by other means
                return data
        raise DamagedBlobError(
            f"{self.uri}/{key} is damaged: its bytes do not have the checksum they were written with"
        )

    def write(self, key: str, data: bytes) -> None:
        doing, place = self._doing(key, "written")
        view = memoryview(data)
        digest = hashlib.sha256(view).hexdigest()
        for attempt in range(_WRITES):
            time.sleep(random.uniform(0.0, min(0.01 * attempt, 0.2)))
            condition: dict[str, str] = {}
            if self.fence is not None:
                tag = self._tag(key, doing)
                condition = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
            try:
                if len(view) > PART:
                    self._put_parts(doing, place, view, digest, condition)
                else:
                    self._check_fence(doing)
                    body = {"Body": bytes(view), "ContentMD5": _md5(view), "Metadata": {_SUM: digest}}
                    self.bucket.attempt(doing, lambda client: client.put_object(**place, **body, **condition))  # noqa: B023 - called at once
                return
            except ClientError as error:
                # by another process of this writer, or by ourselves, when the answer to an earlier attempt was lost
                if code(error) == "NoSuchUpload" or (condition and (refuted(error) or missing(error))):
                    continue
                raise StorageError(f"{doing}: {error}") from error
        raise StorageError(f"{doing}: others replace it again and again")

    def exists(self, key: str) -> bool:
        return self._tag(key, self._doing(key, "read")[0]) is not None

    def folders(self, prefix: str) -> list[str]:
        pages = self._pages(prefix, Delimiter="/")
        names = (found["Prefix"] for page in pages for found in page.get("CommonPrefixes", ()))
        return sorted(name.rstrip("/").rsplit("/", 1)[-1] for name in names)

    def list(self, prefix: str) -> list[str]:
        start = len(self.prefix) + 1 if self.prefix else 0
        return sorted(found["Key"][start:] for page in self._pages(prefix) for found in page.get("Contents", ()))

    def delete(self, key: str) -> None:
        doing, place = self._doing(key, "deleted")
        self._check_fence(doing)
        try:
            self.bucket.attempt(doing, lambda client: client.delete_object(**place))
        except ClientError as error:
            if not missing(error):
                raise StorageError(f"{doing}: {error}") from error

    def confirm(self) -> None:
        self._check_fence(f"{self.uri} cannot be written")

    def discard_unfinished(self) -> None:
        # MinIO lists the parts of one object alone, so nothing here, and removes them itself after a day
        doing = f"unfinished uploads below {self.uri} cannot be removed"
        self._check_fence(doing)
        try:
            for upload in self._unfinished(doing):
                self._abort(doing, upload)
        except ClientError as error:
            raise StorageError(f"{doing}: {error}") from error

    @contextlib.contextmanager
    def sole_writer(self, key: str, lost: Callable[[], None] | None = None) -> Iterator["S3Storage"]:
        place = self._doing(key, "written")[1]
        with held(self.bucket, place["Key"], f"{self.uri}/{key}", lost) as token:
            yield S3Storage._at(self, Fence(key, token))

    @staticmethod
    def _at(storage: "S3Storage", fence: Fence) -> "S3Storage":
        fenced = S3Storage(storage.uri, storage.bucket.endpoint, fence)
        fenced.bucket = storage.bucket  # its connections too
        return fenced

    def _doing(self, key: str, verb: str) -> tuple[str, dict[str, str]]:
        """What is attempted, in words, and S3's name of the object."""
        path = "/".join(part for part in (self.prefix, *checked_key(key, self.uri).parts) if part)
        return f"{self.uri}/{key} cannot be {verb}", {"Bucket": self.bucket.name, "Key": path}

    def _tag(self, key: str, doing: str) -> str | None:
        """What tells an object from others of its key; None where there is none."""
        place = self._doing(key, "")[1]
        try:
            return str(self.bucket.attempt(doing, lambda client: client.head_object(**place))["ETag"])
        except ClientError as error:
            if missing(error):
                return None
            raise StorageError(f"{doing}: {error}") from error

    def _pages(self, prefix: str, **options: str) -> Sequence[dict[str, Any]]:
        doing, place = self._doing(prefix, "listed")

        def pages(client: Any) -> Sequence[dict[str, Any]]:
            asked = {"Bucket": place["Bucket"], "Prefix": f"{place['Key']}/" if place["Key"] else "", **options}
            return tuple(client.get_paginator("list_objects_v2").paginate(**asked))

        try:
            return self.bucket.attempt(doing, pages)
        except ClientError as error:
            raise StorageError(f"{doing}: {error}") from error

    def _unfinished(self, doing: str) -> Sequence[dict[str, str]]:
        """S3's names of the uploads in parts that were begun, and neither completed nor aborted."""
        asked = {"Bucket": self.bucket.name, "Prefix": f"{self.prefix}/" if self.prefix else ""}

        def uploads(client: Any) -> Sequence[dict[str, str]]:
            pages = client.get_paginator("list_multipart_uploads").paginate(**asked)
            return [
                {"Bucket": self.bucket.name, "Key": found["Key"], "UploadId": found["UploadId"]}
                for page in pages
                for found in page.get("Uploads", ())
            ]

        return self.bucket.attempt(doing, uploads)

    def _abort(self, doing: str, upload: dict[str, str], patience: float | None = None) -> None:
        try:
            self.bucket.attempt(doing, lambda client: client.abort_multipart_upload(**upload), patience)
        except ClientError as error:
            if code(error) != "NoSuchUpload":
                raise

    def _put_parts(
        self, doing: str, place: dict[str, str], data: memoryview, digest: str, condition: dict[str, str]
    ) -> None:
        """In parts, which are nothing to anybody until they are put together."""
        attempt = self.bucket.attempt
        upload = attempt(doing, lambda client: client.create_multipart_upload(**place, Metadata={_SUM: digest}))
        this = {**place, "UploadId": upload["UploadId"]}
        size = max(PART, -(-len(data) // _MOST_PARTS))

        def put(number: int) -> dict[str, Any]:
            part = data[(number - 1) * size : number * size]
            body = {"Body": bytes(part), "ContentMD5": _md5(part), "PartNumber": number}
            return {
                "PartNumber": number,
                "ETag": attempt(doing, lambda client: client.upload_part(**this, **body))["ETag"],
            }

        try:
            with ThreadPoolExecutor(_THREADS) as pool:
                parts = {"Parts": list(pool.map(put, range(1, -(-len(data) // size) + 1)))}
            self._check_fence(doing)
            attempt(doing, lambda client: client.complete_multipart_upload(**this, MultipartUpload=parts, **condition))
        except BaseException:
            with contextlib.suppress(ClientError, StorageError):
                self._abort(doing, this, patience=1.0)
            raise

    def _check_fence(self, doing: str) -> None:
        if self.fence is None:
            return
        place = self._doing(self.fence.key, "")[1]
        token, holder = token_and_holder(self.bucket, place["Key"], doing)
        if token != self.fence.token:
            raise replaced(self.uri, holder)


def _md5(data: memoryview) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
