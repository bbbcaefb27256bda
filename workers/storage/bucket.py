"""A bucket of an S3 server: asking it patiently, and saying what is wrong in the user's terms."""

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    SSLError,
)

from workers.storage.protocol import StorageError

T = TypeVar("T")

FIRST_PATIENCE = 10.0  # seconds for a server that has never answered: its address may be wrong
PATIENCE = 300.0  # seconds for one that has: it may be restarted, or the network be cut
_LONGEST_PAUSE = 5.0  # seconds between attempts
_TIMEOUTS = {"connect_timeout": 5, "read_timeout": 30}  # seconds without a sign of life
_ATTEMPTS = 3  # of botocore's own, each time

_DAMAGED_ON_ITS_WAY = {"BadDigest", "XAmzContentSHA256Mismatch"}
_PASSING = {
    "InternalError",
    "OperationAborted",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    *_DAMAGED_ON_ITS_WAY,
}
_CAUSES = {
    "InvalidAccessKeyId": "the server does not know the access key (AWS_ACCESS_KEY_ID, or the profile's)",
    "SignatureDoesNotMatch": "the secret key is not that of the access key (AWS_SECRET_ACCESS_KEY, or the profile's)",
    "ExpiredToken": "the credentials have expired",
    "InvalidToken": "the session token is not valid (AWS_SESSION_TOKEN)",
    "AccessDenied": "access denied: these credentials may not do that",
    "403": "access denied: the credentials are wrong, or may not do that",
    "RequestTimeTooSkewed": "this machine's clock is too far from the server's: set it",
    "PermanentRedirect": "the bucket is in another region: set AWS_REGION",
    "AuthorizationHeaderMalformed": "the bucket is in another region: set AWS_REGION",
    "301": "the bucket is in another region: set AWS_REGION",
}
_NO_CREDENTIALS = (
    "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile of ~/.aws in AWS_PROFILE, "
    "or give the machine a role"
)
_log = logging.getLogger(__name__)


class Bucket:
    """One bucket. Can be sent to other processes: each makes a client of its own, from its own credentials.

    name      the bucket's
    endpoint  of the server; None: Amazon's, or what AWS_ENDPOINT_URL_S3 says
    field     what the user calls the place, as storage.path: its neighbour `endpoint` names the server
    reached   whether the server has answered before
    """

    def __init__(self, name: str, endpoint: str | None, field: str, reached: bool = False):
        self.name, self.endpoint, self.field = name, endpoint, field
        self._reached = reached
        self._lock = threading.Lock()
        self._client: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name, "endpoint": self.endpoint, "field": self.field, "_reached": self._reached}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["name"], state["endpoint"], state["field"], state["_reached"])  # type: ignore[misc]

    def attempt(self, doing: str, work: Callable[[Any], T], patience: float | None = None) -> T:
        """What `work` makes of the client; tried again while the server is away or out of order.

        doing     what is attempted, as in "s3://bucket/key cannot be read", for the error
        patience  seconds; by default minutes for a server that has answered before, seconds for one that has not

        Raises botocore's ClientError for an answer that only the caller can judge (a key that is not there, a
        condition that does not hold), and StorageError for all else.
        """
        start, pause = time.monotonic(), 0.2
        while True:
            try:
                found = work(self._connected(doing))
            except ClientError as error:
                if code(error) not in _PASSING and status(error) < 500:
                    self._reached = True
                    if (cause := self._cause(error)) is not None:
                        raise StorageError(f"{doing}: {cause}") from error
                    raise
                away: Exception = error
            except SSLError as error:
                raise StorageError(f"{doing}: no secure connection to {self._server()}: {error}") from error
            except (NoCredentialsError, PartialCredentialsError) as error:
                raise StorageError(f"{doing}: {_NO_CREDENTIALS}") from error
            except (ConnectionError, HTTPClientError, IncompleteReadError) as error:
                away = error
            except BotoCoreError as error:
                raise StorageError(f"{doing}: {error}") from error
            else:
                self._reached = True
                return found
            allowed = patience or (PATIENCE if self._reached else FIRST_PATIENCE)
            waited = time.monotonic() - start
            if waited + pause > allowed:
                raise StorageError(
                    f"{doing}: {self._server()} does not answer, tried for {waited:.0f} s: {away}"
                ) from away
            if pause > 1.0:
                _log.warning("%s: %s does not answer; trying on: %s", doing, self._server(), away)
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _connected(self, doing: str) -> Any:
        with self._lock:
            if self._client is None:
                # a checksum of each request's body is sent by us, in the header that every server knows
                when = {
                    "request_checksum_calculation": "when_required",
                    "response_checksum_validation": "when_required",
                }
                retries = {"mode": "standard", "total_max_attempts": _ATTEMPTS}
                config = Config(retries=retries, tcp_keepalive=True, max_pool_connections=16, **_TIMEOUTS, **when)
                try:
                    session = boto3.session.Session()
                    self._client = session.client("s3", endpoint_url=self.endpoint, config=config)
                except (BotoCoreError, ValueError) as error:  # a profile that is not there, an endpoint that is no URL
                    raise StorageError(f"{doing}: {error}") from error
        return self._client

    def _cause(self, error: ClientError) -> str | None:
        if code(error) == "NoSuchBucket":
            return f"there is no bucket {self.name!r} ({self.field}) at {self._server()}"
        if code(error) in _CAUSES:
            return f"{_CAUSES[code(error)]}; {self.field} is at {self._server()}"
        return None

    def _server(self) -> str:
        if self.endpoint is not None:
            return f"{self.endpoint} ({self.field.rsplit('.', 1)[0]}.endpoint)"
        return str(self._client.meta.endpoint_url) if self._client is not None else "S3"


def code(error: ClientError) -> str:
    """S3's name of an error; of a HEAD request, which has none, the HTTP status."""
    return str(error.response.get("Error", {}).get("Code", ""))


def status(error: ClientError) -> int:
    """The HTTP status of an error."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def missing(error: ClientError) -> bool:
    """Whether an error says that there is no such key."""
    return code(error) in ("NoSuchKey", "NotFound", "404")


def refuted(error: ClientError) -> bool:
    """Whether an error says that the condition of a request does not hold."""
    return status(error) in (409, 412)


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and prefix of s3://bucket/prefix, the prefix without slashes at its ends."""
    parts = urlsplit(uri)
    return parts.netloc, parts.path.strip("/")
