"""What every storage must do. A new one is added to STORAGES; `Made` says how to break it."""

import base64
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from servers.s3 import S3Server
from servers.small_disk import small_disk
from workers.storage import FencedError, LocalStorage, Storage, StorageError, SweepBusyError, open_storage


@dataclass(frozen=True)
class Made:
    """A storage, how another process opens it, and one that refuses to be written, with what it says.

    `unfinished` names what writers that were killed have left, where no reader sees it.
    """

    storage: Storage
    expression: str
    refusing: Storage
    refusal: str
    unfinished: Callable[[], list[str]]


def local(folder: Path, request: pytest.FixtureRequest) -> Made:
    root = folder / "store"
    # Nothing can be made below /proc, not even by root.
    refusal = r"/proc/medoid/(x|lock) cannot be written: "
    storage = LocalStorage(root)

    def unfinished() -> list[str]:
        files = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
        return sorted(files - set(storage.list("")))

    return Made(storage, f"open_storage({str(root)!r})", LocalStorage("/proc/medoid"), refusal, unfinished)


def s3(folder: Path, request: pytest.FixtureRequest) -> Made:
    server: S3Server = request.getfixturevalue("s3_keys")
    prefix = f"{folder.parent.name}/{folder.name}"
    place = f"s3://{server.bucket}/{prefix}"

    def unfinished() -> list[str]:
        return [upload["Key"] for upload in server.unfinished_uploads(f"{prefix}/")]

    return Made(
        open_storage(place, server.endpoint),
        f"open_storage({place!r}, {server.endpoint!r})",
        open_storage("s3://nosuch/store", server.endpoint),
        r"s3://nosuch/store/(x|lock) cannot be written: there is no bucket 'nosuch' \(storage\.path\) at http",
        unfinished,
    )


STORAGES: dict[str, Callable[[Path, pytest.FixtureRequest], Made]] = {"local": local, "s3": s3}


@pytest.fixture(params=STORAGES.values(), ids=STORAGES)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Made:
    return request.param(tmp_path, request)


@pytest.fixture
def storage(made: Made) -> Storage:
    return made.storage


def start(expression: str, code: str) -> "subprocess.Popen[str]":
    """Another process with `storage` in hand; it says `ready` on its standard output when it is where it should be."""
    head = f"from workers.storage import *\nimport base64, os, pickle, sys, time\nstorage = {expression}\n"
    program = head + textwrap.dedent(code)
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)


def ready(process: "subprocess.Popen[str]") -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def killed_in(expression: str, code: str) -> None:
    """Run it until it is ready, and kill it there."""
    process = start(expression, code)
    try:
        ready(process)
    finally:
        process.kill()
        process.communicate()


class TestBlobs:
    @pytest.mark.parametrize("data", [b"", b"abc", bytes(range(256)) * 4096])
    def test_are_read_as_written(self, storage: Storage, data: bytes) -> None:
        storage.write("a/b/c.bin", data)
        assert storage.read("a/b/c.bin") == data
        assert storage.exists("a/b/c.bin")

    def test_are_replaced(self, storage: Storage) -> None:
        storage.write("x", b"a long first one")
        storage.write("x", b"short")
        assert storage.read("x") == b"short"
        assert storage.list("") == ["x"]

    def test_that_are_missing(self, storage: Storage) -> None:
        storage.write("folder/x", b"")
        for key in ("y", "folder/y", "folder", "nowhere/y"):
            assert not storage.exists(key)
        for key in ("y", "folder/y", "nowhere/y"):
            with pytest.raises(FileNotFoundError):
                storage.read(key)

    def test_are_listed_below_a_folder_sorted(self, storage: Storage) -> None:
        keys = ["t/b/00010.npz", "t/b/00002.npz", "t/a.json", "t/.hidden", "t/x.part", "tt/a", "z"]
        for key in keys:
            storage.write(key, b"")
        assert storage.list("t") == sorted(keys[:5])
        assert storage.list("t/b") == ["t/b/00002.npz", "t/b/00010.npz"]
        assert storage.list("") == sorted(keys)
        assert storage.list("nowhere") == []

    def test_folders_are_named(self, storage: Storage) -> None:
        for key in ("a/x/1", "a/y", "b/x", "c"):
            storage.write(key, b"")
        assert storage.folders("") == ["a", "b"]
        assert storage.folders("a") == ["x"]
        assert storage.folders("nowhere") == []

    def test_are_the_same_to_those_they_are_sent_to(self, storage: Storage) -> None:
        sent: Storage = pickle.loads(pickle.dumps(storage))
        storage.write("x", b"1")
        assert sent.read("x") == b"1"
        assert sent.uri == storage.uri

    def test_are_deleted_and_deleted_again(self, storage: Storage) -> None:
        storage.write("a/x", b"1")
        storage.write("a/y", b"2")
        storage.delete("a/x")
        storage.delete("a/x")
        storage.delete("never/was")
        assert storage.list("") == ["a/y"]

    @pytest.mark.parametrize("key", ["../x", "a/../../x", "a/../b", "/etc/passwd", ".."])
    def test_keys_that_lead_out_are_refused(self, storage: Storage, key: str) -> None:
        attempts: list[Callable[[], object]] = [
            lambda: storage.read(key),
            lambda: storage.write(key, b""),
            lambda: storage.exists(key),
            lambda: storage.list(key),
            lambda: storage.folders(key),
            lambda: storage.delete(key),
            lambda: storage.sole_writer(key).__enter__(),
        ]
        for attempt in attempts:
            with pytest.raises(ValueError, match="leads out of"):
                attempt()


class TestWriting:
    def test_no_reader_ever_sees_a_part(self, storage: Storage) -> None:
        blobs = [bytes([letter]) * 300_000 for letter in b"ab"]
        storage.write("x", blobs[0])
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                for blob in blobs:
                    storage.write("x", blob)

        writers = [threading.Thread(target=write) for _ in range(2)]
        for writer in writers:
            writer.start()
        try:
            seen = {storage.read("x") for _ in range(200)}
            listed = {tuple(storage.list("")) for _ in range(50)}
        finally:
            stop.set()
            for writer in writers:
                writer.join()
        assert seen <= set(blobs)
        assert listed == {("x",)}

    def test_a_killed_writer_leaves_nothing_to_be_seen(self, made: Made) -> None:
        """Killed over and over in the middle of writing 4 MB: what is listed is whole."""
        code = """
            print("ready", flush=True)
            for number in range(10**6):
                storage.write(f"folder/{number}", bytes([number % 256]) * 4_000_000)
        """
        for pause in (0.0, 0.004, 0.011):
            process = start(made.expression, code)
            ready(process)
            threading.Event().wait(pause)
            process.kill()
            process.wait()
            for key in made.storage.list(""):
                number = int(key.rsplit("/", 1)[1])
                assert made.storage.read(key) == bytes([number % 256]) * 4_000_000

    def test_what_killed_writers_left_is_discarded(self, made: Made) -> None:
        code = """
            def stop(*_):
                print("ready", flush=True)
                time.sleep(60)
            storage._check_fence = stop  # the last that is done before the blob appears
            storage.write("a/x", bytes(9 * 2**20))
        """
        made.storage.write("a/y", b"whole")
        killed_in(made.expression, code)
        killed_in(made.expression, code)
        assert len(made.unfinished()) == 2
        assert made.storage.list("") == ["a/y"]
        with made.storage.sole_writer("lock") as mine:
            mine.discard_unfinished()
        assert made.unfinished() == []
        assert made.storage.read("a/y") == b"whole"
        assert made.storage.list("") == ["a/y", "lock"]

    def test_a_failed_write_keeps_what_was_there(self, storage: Storage) -> None:
        storage.write("x", b"before")
        with pytest.raises(TypeError):
            storage.write("x", "no bytes")  # type: ignore[arg-type]
        assert storage.read("x") == b"before"
        assert storage.list("") == ["x"]


class TestSoleWriter:
    HOLD = """
        with storage.sole_writer("lock"):
            print("ready", flush=True)
            time.sleep(60)
    """

    def test_excludes_other_processes_until_it_is_left(self, made: Made) -> None:
        code = """
            try:
                with storage.sole_writer("lock"):
                    pass
            except SweepBusyError as error:
                print(error)
            else:
                print("free")
        """

        def said() -> str:
            process = start(made.expression, code)
            return process.communicate()[0].strip()

        with made.storage.sole_writer("lock"):
            assert f"process {os.getpid()} on " in said()
        assert said() == "free"

    def test_is_refused_and_freed_when_the_holder_is_killed(self, made: Made) -> None:
        process = start(made.expression, self.HOLD)
        try:
            ready(process)
            with pytest.raises(SweepBusyError, match=f"process {process.pid} on "):
                made.storage.sole_writer("lock").__enter__()
            assert process.poll() is None
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        with made.storage.sole_writer("lock"):
            pass

    def test_is_freed_by_an_error_inside(self, storage: Storage) -> None:
        with pytest.raises(KeyError), storage.sole_writer("lock"):
            raise KeyError
        with storage.sole_writer("lock"):
            pass

    def test_who_lost_it_leaves_the_next_ones_alone(self, tmp_path: Path) -> None:
        """As on a shared file system that forgot the first one's lock while it was cut off."""
        with LocalStorage(tmp_path).sole_writer("lock"):
            (tmp_path / "lock").unlink()
            second = LocalStorage(tmp_path).sole_writer("lock")
            given = second.__enter__()
        given.write("x", b"second")
        second.__exit__(None, None, None)

    def test_locks_are_independent(self, storage: Storage) -> None:
        with storage.sole_writer("a/lock"), storage.sole_writer("b/lock"):
            pass


class TestFence:
    """What was given to a holder's helpers is of no use once another has been let in."""

    GIVE = """
        with storage.sole_writer("lock") as given:
            given.write("x", b"holder")
            print(base64.b64encode(pickle.dumps(given)).decode(), flush=True)
            time.sleep(60)
    """

    @pytest.fixture
    def orphan(self, made: Made) -> Storage:
        """The storage that a holder gave to a helper, the holder itself having been killed."""
        process = start(made.expression, self.GIVE)
        assert process.stdout is not None
        try:
            return pickle.loads(base64.b64decode(process.stdout.readline()))  # type: ignore[no-any-return]
        finally:
            process.kill()
            process.communicate()

    def test_a_helper_may_write_until_another_is_let_in(self, made: Made, orphan: Storage) -> None:
        orphan.write("x", b"helper")
        orphan.write("y", b"helper")
        orphan.delete("y")
        orphan.confirm()
        with made.storage.sole_writer("lock") as mine:
            for attempt in (
                lambda: orphan.write("x", b"late"),
                lambda: orphan.write("new", b"late"),
                lambda: orphan.write("large", b"late" * 3_000_000),
                lambda: orphan.delete("x"),
                orphan.discard_unfinished,
                orphan.confirm,
            ):
                with pytest.raises(FencedError, match=rf"taken over by process {os.getpid()} on "):
                    attempt()
            assert mine.read("x") == b"helper"
            mine.write("x", b"mine")
            mine.write("large", b"mine" * 3_000_000)
        with pytest.raises(FencedError, match="taken over by another process, which has ended since"):
            orphan.write("x", b"later still")
        assert made.storage.read("x") == b"mine"
        assert made.storage.read("large") == b"mine" * 3_000_000
        assert made.storage.list("") == ["large", "lock", "x"]
        assert orphan.read("x") == b"mine"

    def test_the_holder_and_its_helpers_write_side_by_side(self, storage: Storage) -> None:
        with storage.sole_writer("lock") as mine:
            helper: Storage = pickle.loads(pickle.dumps(mine))
            errors: list[BaseException] = []

            def write(through: Storage) -> None:
                try:
                    for number in range(20):
                        through.write("x", b"%d" % number)
                except BaseException as error:  # noqa: BLE001 - shown by the test
                    errors.append(error)

            threads = [threading.Thread(target=write, args=(one,)) for one in (mine, helper)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert errors == []
        assert storage.read("x") == b"19"

    def test_the_storage_itself_is_not_fenced(self, storage: Storage) -> None:
        """`medoid report` beside a run writes the same report as the run would."""
        with storage.sole_writer("lock"):
            storage.write("x", b"1")
        assert storage.read("x") == b"1"


class TestFailures:
    """A store that fails says where and why, whatever is asked of it."""

    def test_of_a_store_that_takes_nothing(self, made: Made) -> None:
        for attempt in (lambda s: s.write("x", b"1"), lambda s: s.sole_writer("lock").__enter__()):
            with pytest.raises(StorageError, match=made.refusal):
                attempt(made.refusing)


class TestLocalStorage:
    """What only a file system can do."""

    @pytest.fixture
    def below_a_file(self, tmp_path: Path) -> LocalStorage:
        (tmp_path / "file").write_text("")
        return LocalStorage(tmp_path / "file" / "store")

    @pytest.mark.parametrize(
        ("verb", "attempt"),
        [
            ("read", lambda s: s.read("x")),
            ("written", lambda s: s.write("x", b"")),
            ("deleted", lambda s: s.delete("x")),
            ("listed", lambda s: s.list("")),
            ("written", lambda s: s.sole_writer("x").__enter__()),
        ],
    )
    def test_below_a_file(
        self, below_a_file: LocalStorage, verb: str, attempt: Callable[[LocalStorage], object]
    ) -> None:
        with pytest.raises(StorageError, match=rf"/file/store(/x)? cannot be {verb}: Not a directory"):
            attempt(below_a_file)

    def test_a_folder_is_no_blob(self, tmp_path: Path) -> None:
        storage = LocalStorage(tmp_path)
        storage.write("folder/x", b"1")
        with pytest.raises(StorageError, match="folder cannot be read: Is a directory"):
            storage.read("folder")
        with pytest.raises(StorageError, match="folder cannot be written: Is a directory"):
            storage.write("folder", b"1")
        assert storage.list("") == ["folder/x"]

    def test_what_a_killed_writer_left_is_not_listed(self, tmp_path: Path) -> None:
        code = """
            def flush(handle):
                print("ready", flush=True)
                time.sleep(60)
            os.fsync = flush
            storage.write("folder/x", b"half")
        """
        storage = LocalStorage(tmp_path / "store")
        killed_in(f"open_storage({storage.uri!r})", code)
        assert list((tmp_path / "store" / "folder").iterdir()), "it was killed too early: nothing is left"
        assert storage.list("") == []
        assert not storage.exists("folder/x")
        storage.write("folder/x", b"whole")
        assert storage.list("") == ["folder/x"]
        assert storage.read("folder/x") == b"whole"

    def test_no_space_left(self, tmp_path: Path) -> None:
        """In a process that may not write more than 4 kB to a file: the error of a full quota."""
        code = """
            import resource, signal
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
            storage.write("small", b"1" * 4000)
            storage.write("x", b"old")
            try:
                storage.write("x", b"1" * 5000)
            except StorageError as error:
                print(error, flush=True)
        """
        storage = LocalStorage(tmp_path / "store")
        process = start(f"open_storage({storage.uri!r})", code)
        assert process.communicate()[0].strip().endswith("store/x cannot be written: File too large")
        assert storage.read("x") == b"old"
        assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["small", "x"]

    def test_a_full_disk(self, tmp_path: Path) -> None:
        with small_disk(tmp_path / "small", "64k") as small:
            storage = LocalStorage(small)
            storage.write("x", b"old")
            with pytest.raises(StorageError, match="x cannot be written: No space left on device"):
                storage.write("x", b"1" * 100_000)
            assert storage.read("x") == b"old"
            assert storage.list("") == ["x"]
            storage.write("y", b"fits")

    def test_a_root_below_home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        assert open_storage("~/runs").uri == f"{tmp_path}/runs"

    def test_a_root_with_dots(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        storage = LocalStorage("../runs")
        storage.write("a/x", b"1")
        assert (tmp_path / "runs" / "a" / "x").read_bytes() == b"1"
        assert storage.list("") == ["a/x"]

    def test_stays_where_it_was_opened(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        storage = LocalStorage("runs")
        monkeypatch.chdir("/")
        storage.write("x", b"1")
        assert (tmp_path / "runs" / "x").exists()

    def test_others_may_read(self, tmp_path: Path) -> None:
        LocalStorage(tmp_path).write("x", b"1")
        assert (tmp_path / "x").stat().st_mode & 0o777 == 0o644


def test_open_storage(tmp_path: Path) -> None:
    assert open_storage(str(tmp_path)).uri == str(tmp_path)
    assert open_storage("s3://bucket/runs/").uri == "s3://bucket/runs"
