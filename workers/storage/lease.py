"""The right to write below a prefix of S3, held by one process at a time.

The lease is an object, and all that changes it is conditional on what it was: so the server decides who holds it.
Its holder renews it. Who wants it and finds it held watches it, and takes it over once it has stayed as it was for
TAKEOVER seconds of the watcher's own clock, in which the server always answered: clocks of two machines are never
compared, and a server that was away costs nobody the lease. When that happens to a holder that is alive after all
(suspended, cut off), it has lost nothing but its right: every write of its looks at the lease first.
"""

import contextlib
import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from workers.storage.bucket import Bucket, missing, refuted
from workers.storage.protocol import StorageError, SweepBusyError, replaced

RENEWAL = 5.0  # seconds between renewals
TAKEOVER = 30.0  # seconds without one, after which the lease is anybody's
_POLL = 1.0  # seconds between a watcher's looks
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _State:
    """What the object holds. An empty token: nobody has the lease."""

    token: str = ""
    holder: str = ""  # in words
    machine: str = ""  # a boot of a machine, and its processes' name space
    process: int = 0
    started: str = ""  # by the machine's clock ticks: tells a process from a later one of the same number
    beat: int = 0

    def to_bytes(self) -> bytes:
        return (json.dumps(asdict(self), indent=1) + "\n").encode()

    @classmethod
    def of(cls, data: bytes) -> "_State":
        try:
            return cls(**json.loads(data))
        except (ValueError, TypeError):
            return cls()  # not a lease of ours: taken as free, and its token is nobody's


@contextlib.contextmanager
def held(bucket: Bucket, key: str, place: str, lost: Callable[[], None] | None) -> Iterator[str]:
    """Hold the lease that is the object `key` while the context lasts; gives its token.

    `place` names it in errors. Raises SweepBusyError where another process renews it, FencedError at the end where
    another has it by then, and StorageError where the server does not keep to conditions.
    """
    lease = _Lease(bucket, key, place)
    lease.take()
    closing = threading.Event()
    thread = threading.Thread(target=lease.keep, args=(closing, lost), name="lease", daemon=True)
    thread.start()
    try:
        yield lease.state.token
    except BaseException as error:
        if lease.taken_by is not None and not isinstance(error, Exception):  # what `lost` has caused
            raise replaced(place.rsplit("/", 1)[0], lease.taken_by) from error
        raise
    finally:
        closing.set()
        thread.join()
        if lease.taken_by is None:
            lease.release()
    if lease.taken_by is not None:
        raise replaced(place.rsplit("/", 1)[0], lease.taken_by)


def token_and_holder(bucket: Bucket, key: str, doing: str) -> tuple[str, str]:
    """Whose the lease is now: the token, and the holder in words; both empty where it is free."""
    state, _ = _look(bucket, key, doing)
    return state.token, state.holder


class _Lease:
    def __init__(self, bucket: Bucket, key: str, place: str):
        self.bucket, self.key, self.place = bucket, key, place
        self.doing = f"{place} cannot be written"
        self.state, self.tag = _State(), ""
        self.taken_by: str | None = None

    def take(self) -> None:
        """Get the lease, at once where it is free or its holder is known to be dead. May wait for TAKEOVER seconds."""
        mine = _State(
            token=secrets.token_hex(16),
            holder=f"process {os.getpid()} on {socket.gethostname()}",
            machine=_machine(),
            process=os.getpid(),
            started=_started(os.getpid()) or "",
        )
        while True:
            state, tag = _look(self.bucket, self.key, self.doing)
            if state.token == mine.token and tag is not None:  # the answer to the last attempt was lost
                taken = tag
                break
            if state.token:
                if _alive_here(state):
                    raise self._busy(state)
                if not _dead_here(state):
                    self._watch(state, tag)
            put = self._put(mine, tag)
            if put is not None:
                taken = put
                break
        self.state, self.tag = mine, taken
        if self._put(replace(mine, beat=1), None) is not None:  # as if there were none: must be refused
            self.release()
            raise StorageError(
                f"{self.doing}: {self.bucket.endpoint or 'the server'} does not keep to conditional writes "
                "(If-None-Match), without which two runs of one sweep cannot be told apart: use a newer server"
            )

    def keep(self, closing: threading.Event, lost: Callable[[], None] | None) -> None:
        """The thread: renew the lease until closed, or until another has it."""
        while not closing.wait(RENEWAL):
            try:
                self._renew()
            except StorageError as error:  # away for minutes: whoever wants the lease cannot get it either
                _log.warning("%s", error)
            if self.taken_by is not None:
                if lost is not None:
                    lost()
                return

    def release(self) -> None:
        try:
            self._put(_State(beat=self.state.beat + 1), self.tag)
        except StorageError as error:  # it is free in TAKEOVER seconds anyhow
            _log.warning("%s", error)

    def _renew(self) -> None:
        renewed = replace(self.state, beat=self.state.beat + 1)
        tag = self._put(renewed, self.tag)
        if tag is None:  # another has it, or the answer to an earlier attempt was lost
            found, tag = _look(self.bucket, self.key, self.doing)
            if found.token != self.state.token:
                self.taken_by = found.holder
                return
            renewed = found
        self.state, self.tag = renewed, tag or ""

    def _watch(self, state: _State, tag: str | None) -> None:
        """Return when the lease has stayed as it is for long enough. Raises SweepBusyError when it is renewed."""
        _log.warning("%s: held by %s; waiting %.0f s to see whether it is renewed", self.place, state.holder, TAKEOVER)
        start = time.monotonic()
        while time.monotonic() - start < TAKEOVER:
            time.sleep(_POLL)
            asked = time.monotonic()
            found, now = _look(self.bucket, self.key, self.doing)
            if now != tag:
                if not found.token:
                    return  # released
                raise self._busy(found)
            if time.monotonic() - asked > _POLL:
                start = time.monotonic()  # the server was away, and its holder could not renew it either

    def _busy(self, state: _State) -> SweepBusyError:
        where = self.place.rsplit("/", 1)[0]
        return SweepBusyError(f"{where} is being written by {state.holder}; wait for it, or stop it first")

    def _put(self, state: _State, tag: str | None) -> str | None:
        """Write the lease if it is still as it was (None: not there); its new tag, or None where it was not."""
        condition = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
        body = {"Bucket": self.bucket.name, "Key": self.key, "Body": state.to_bytes(), **condition}
        try:
            return str(self.bucket.attempt(self.doing, lambda client: client.put_object(**body))["ETag"])
        except ClientError as error:
            if refuted(error) or missing(error):
                return None
            raise StorageError(f"{self.doing}: {error}") from error


def _look(bucket: Bucket, key: str, doing: str) -> tuple[_State, str | None]:
    """The lease and its tag; None where there is none yet."""

    def get(client: Any) -> tuple[bytes, str]:
        answer = client.get_object(Bucket=bucket.name, Key=key)
        return answer["Body"].read(), str(answer["ETag"])

    try:
        data, tag = bucket.attempt(doing, get)
    except ClientError as error:
        if missing(error):
            return _State(), None
        raise StorageError(f"{doing}: {error}") from error
    return _State.of(data), tag


def _alive_here(state: _State) -> bool:
    return _is_here(state) and _started(state.process) == state.started


def _dead_here(state: _State) -> bool:
    return _is_here(state) and _started(state.process) != state.started


def _is_here(state: _State) -> bool:
    """Whether the holder is, or was, a process that this one can see."""
    return bool(state.machine) and state.machine == _machine()


def _machine() -> str:
    """This boot of this machine and this name space of processes; empty where that cannot be known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(process: int) -> str | None:
    """When a process started, in ticks since the machine did; None where there is none, or only its remains."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
