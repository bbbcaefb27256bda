"""What only S3 can do to a storage: wrong keys, damage on the way, outages, and leases that are lost."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from servers.s3 import S3Server
from workers.checkpoints import Checkpoints
from workers.records import checkpoint_key
from workers.storage import DamagedBlobError, FencedError, StorageError, SweepBusyError, lease, open_storage
from workers.storage.s3 import PART, S3Storage


@pytest.fixture
def place(s3_keys: S3Server, tmp_path: Path) -> str:
    return f"s3://{s3_keys.bucket}/{tmp_path.parent.name}/{tmp_path.name}"


@pytest.fixture
def storage(s3_keys: S3Server, place: str) -> S3Storage:
    made = open_storage(place, s3_keys.endpoint)
    assert isinstance(made, S3Storage)
    return made


def start(storage: S3Storage, code: str) -> "subprocess.Popen[str]":
    """Another process with `storage` in hand."""
    head = "import os, sys, time\nfrom workers.storage import *\nfrom workers.storage import lease, s3\n"
    head += f"storage = open_storage({storage.uri!r}, {storage.bucket.endpoint!r})\n"
    command = [sys.executable, "-c", head + textwrap.dedent(code)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)


def said(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


class TestRefusals:
    """Each names the place, the field and the cause."""

    @pytest.mark.parametrize(
        ("variable", "value", "cause"),
        [
            ("AWS_SECRET_ACCESS_KEY", "not-the-one", "the secret key is not that of the access key"),
            ("AWS_ACCESS_KEY_ID", "not-the-one", "the server does not know the access key"),
            ("AWS_ACCESS_KEY_ID", None, "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ],
    )
    def test_of_credentials(
        self, storage: S3Storage, monkeypatch: pytest.MonkeyPatch, variable: str, value: str | None, cause: str
    ) -> None:
        if value is None:
            monkeypatch.delenv(variable)
            monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        else:
            monkeypatch.setenv(variable, value)
        for attempt in (
            lambda: storage.write("x", b"1"),
            lambda: storage.read("x"),
            lambda: storage.list(""),
            lambda: storage.sole_writer("lock").__enter__(),
        ):
            with pytest.raises(
                StorageError, match=rf"{storage.uri}.* cannot be (written|read|listed): {cause}"
            ) as said:
                attempt()
            assert "not-the-one" not in str(said.value)

    def test_of_a_server_that_is_not_there(self, s3_keys: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("workers.storage.bucket.FIRST_PATIENCE", 0.5)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            nowhere = f"http://127.0.0.1:{probe.getsockname()[1]}"
        with pytest.raises(StorageError, match=rf"x cannot be read: {nowhere} \(storage.endpoint\) does not answer"):
            open_storage("s3://bucket/runs", nowhere).read("x")


class TestDamage:
    def test_at_rest_is_noticed(self, storage: S3Storage, s3_keys: S3Server) -> None:
        storage.write("x", b"as it was written")
        damage(storage, s3_keys, "x", b"as it was writtem")
        with pytest.raises(DamagedBlobError, match=rf"{storage.uri}/x is damaged"):
            storage.read("x")

    def test_of_a_checkpoint_falls_back_to_the_one_before(self, storage: S3Storage, s3_keys: S3Server) -> None:
        checkpoints = Checkpoints(storage, "trial")
        for epoch in (1, 2):
            checkpoints.save(epoch, {"epoch": epoch})
        key = checkpoint_key("trial", 2)
        whole = storage.read(key)
        damage(storage, s3_keys, key, whole[:-1] + bytes([whole[-1] ^ 1]))
        notes: list[str] = []
        assert checkpoints.load_last(notes.append) == {"epoch": 1}
        assert [key in note for note in notes] == [True]

    @pytest.mark.parametrize("size", [1_000, PART + 1_000])
    def test_on_the_way_is_mended(self, storage: S3Storage, s3_keys: S3Server, size: int) -> None:
        blob = os.urandom(size - 6) + b"MARKER"
        with Damaging(s3_keys.ports["s3"]) as proxy:
            through = open_storage(storage.uri, proxy.endpoint)
            through.write("x", blob)
            assert proxy.damaged == 1
            assert storage.read("x") == blob
            proxy.armed = True
            assert through.read("x") == blob
            assert proxy.damaged == 2


def damage(storage: S3Storage, server: S3Server, key: str, data: bytes) -> None:
    """Other bytes below the same metadata, as a disk that fails leaves them."""
    place: dict[str, Any] = {"Bucket": server.bucket, "Key": f"{storage.prefix}/{key}"}
    client = server.client()
    client.put_object(Body=data, Metadata=client.head_object(**place)["Metadata"], **place)


class Damaging:
    """A proxy that changes one byte of what goes through it, once each time it is armed."""

    def __init__(self, port: int):
        self.port, self.armed, self.damaged = port, True, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def __enter__(self) -> "Damaging":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:  # closed
                return
            server = socket.create_connection(("127.0.0.1", self.port))
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(2**16):
                if self.armed and b"MARKER" in data:
                    data, self.armed, self.damaged = data.replace(b"MARKER", b"MARKED"), False, self.damaged + 1
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            sink.close()


class TestLargeBlobs:
    def test_go_in_parts(self, storage: S3Storage, s3_keys: S3Server) -> None:
        blob = os.urandom(2 * PART + 5)
        storage.write("x", blob)
        assert storage.read("x") == blob
        tag = s3_keys.client().head_object(Bucket=s3_keys.bucket, Key=f"{storage.prefix}/x")["ETag"]
        assert tag.endswith('-3"')

    def test_are_not_there_before_the_last_part(self, storage: S3Storage) -> None:
        code = """
            def stay(self, doing):
                print("ready", flush=True)
                time.sleep(60)
            s3.S3Storage._check_fence = stay  # called when all parts are there
            storage.write("x", b"1" * (s3.PART + 1))
        """
        process = start(storage, code)
        assert said(process) == "ready"
        assert storage.list("") == []
        process.kill()
        process.communicate()
        assert storage.list("") == []
        assert not storage.exists("x")


class TestOutage:
    def test_is_waited_for(self, storage: S3Storage, s3_keys: S3Server, caplog: pytest.LogCaptureFixture) -> None:
        """By readers and writers, and by the holder of the lease, who keeps it."""
        blob = os.urandom(PART + 1)
        done: list[str] = []

        def use() -> None:
            mine.write("large", blob)
            mine.write("small", b"1")
            done.append(str(mine.list("")))

        with storage.sole_writer("lock") as mine:
            mine.write("before", b"1")
            s3_keys.stop()
            user = threading.Thread(target=use)
            try:
                user.start()
                time.sleep(4.0)
                assert user.is_alive(), "it did not wait"
                assert done == []
            finally:
                s3_keys.start()
            user.join(60.0)
            assert mine.read("large") == blob
        assert done == ["['before', 'large', 'lock', 'small']"]
        assert "does not answer; trying on" in caplog.text


class TestLease:
    HOLD = """
        lease.RENEWAL = 0.5
        lease._machine = lambda: "another machine"
        try:
            with storage.sole_writer("lock", lost=lambda: print("lost", flush=True)) as mine:
                mine.write("x", b"first")
                print("ready", flush=True)
                sys.stdin.readline()
                try:
                    mine.write("x", b"late")
                except FencedError as error:
                    print("refused", flush=True)
        except FencedError as error:
            print(error, flush=True)
    """

    @pytest.fixture(params=[600, pytest.param(-600, marks=pytest.mark.slow)], ids=["ahead", "behind"])
    def holder(self, storage: S3Storage, request: pytest.FixtureRequest) -> "Iterator[subprocess.Popen[str]]":
        """Another process, on what it takes for another machine, whose clock is ten minutes off."""
        skew = f"""
        import datetime, botocore.auth, botocore.compat
        now = botocore.auth.get_current_datetime
        wall = time.time
        time.time = lambda: wall() + {request.param}
        botocore.auth.get_current_datetime = lambda *a, **k: now(*a, **k) + datetime.timedelta(seconds={request.param})
        """
        process = start(storage, textwrap.dedent(skew) + textwrap.dedent(self.HOLD))
        try:
            assert said(process) == "ready"
            yield process
        finally:
            process.kill()
            process.communicate()

    @pytest.fixture(autouse=True)
    def _soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lease, "TAKEOVER", 3.0)
        monkeypatch.setattr(lease, "_POLL", 0.2)

    def test_is_had_by_whoever_asked_though_the_answer_was_lost(
        self, storage: S3Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put, refused = lease._Lease._put, []

        def unheard(self: lease._Lease, state: lease._State, tag: str | None) -> str | None:
            done = put(self, state, tag)
            if not refused:
                refused.append(done)
                return None  # as where the answer is lost, and the same is refused when it is sent again
            return done

        monkeypatch.setattr(lease._Lease, "_put", unheard)
        with storage.sole_writer("lock") as mine:
            mine.write("x", b"mine")
        assert refused != [None]
        assert storage.read("x") == b"mine"

    def test_of_one_who_renews_it_is_refused(self, storage: S3Storage, holder: "subprocess.Popen[str]") -> None:
        with pytest.raises(SweepBusyError, match=rf"{storage.uri} is being written by process {holder.pid} on "):
            storage.sole_writer("lock").__enter__()

    def test_of_one_who_is_cut_off_is_taken_over(self, storage: S3Storage, holder: "subprocess.Popen[str]") -> None:
        """Suspended, it says nothing, as if its network were cut; back again, it may not write."""
        holder.send_signal(signal.SIGSTOP)
        with storage.sole_writer("lock") as mine:
            mine.write("x", b"second")
            holder.send_signal(signal.SIGCONT)
            assert said(holder) == "lost"
            output, _ = holder.communicate("go on\n", timeout=30)
            assert output.startswith("refused\n")
            assert f"{storage.uri} was taken over by process {os.getpid()} on " in output
            assert mine.read("x") == b"second"
        assert storage.read("x") == b"second"

    @pytest.mark.slow
    def test_is_kept_while_the_server_is_away(self, storage: S3Storage, s3_keys: S3Server) -> None:
        """For longer than a silence that would cost it: nobody could renew."""
        process = start(storage, self.HOLD)
        try:
            assert said(process) == "ready"
            process.send_signal(signal.SIGSTOP)  # so that the watch has begun when the server goes
            refusal: list[BaseException] = []

            def take() -> None:
                try:
                    storage.sole_writer("lock").__enter__()
                except SweepBusyError as error:
                    refusal.append(error)

            taker = threading.Thread(target=take)
            taker.start()
            time.sleep(1.0)
            s3_keys.stop()
            process.send_signal(signal.SIGCONT)
            time.sleep(4.0)
            s3_keys.start()
            taker.join(60.0)
            assert len(refusal) == 1
            output, _ = process.communicate("go on\n", timeout=60)
            assert output == "", "it could write all the time"
        finally:
            process.kill()
            process.communicate()

    def test_a_write_that_set_out_before_cannot_replace_what_came_after(self, storage: S3Storage) -> None:
        with storage.sole_writer("lock") as old:
            old.write("x", b"before")
        slow = Slow(storage.uri, storage.bucket.endpoint, old.fence)
        slow.between = lambda: _take_and_write(storage)
        with pytest.raises(FencedError):
            slow.write("x", b"late")
        assert storage.read("x") == b"after"

    def test_on_a_server_without_conditions_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, s3_keys: S3Server
    ) -> None:
        with ThreadingHTTPServer(("127.0.0.1", 0), Unconditional) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            storage = open_storage("s3://bucket/runs", f"http://127.0.0.1:{server.server_port}")
            with pytest.raises(StorageError, match="does not keep to conditional writes"):
                storage.sole_writer("lock").__enter__()
            server.shutdown()


class Slow(S3Storage):
    """A writer that is held up between its look at the lease and its write."""

    between: Callable[[], None]

    def _check_fence(self, doing: str) -> None:
        if (between := self.__dict__.pop("between", None)) is not None:
            between()
        else:
            super()._check_fence(doing)


def _take_and_write(storage: S3Storage) -> None:
    with storage.sole_writer("lock") as mine:
        mine.write("x", b"after")


class Unconditional(BaseHTTPRequestHandler):
    """An S3 server of long ago: it writes whatever the conditions say."""

    protocol_version = "HTTP/1.1"
    blobs: dict[str, bytes] = {}  # noqa: RUF012 - one server a process

    def do_PUT(self) -> None:
        self.blobs[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200, b"")

    def do_GET(self) -> None:
        found = self.blobs.get(self.path)
        missing = b"<Error><Code>NoSuchKey</Code></Error>"
        self._answer(404 if found is None else 200, missing if found is None else found)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("ETag", '"tag"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass
