"""Data that lie in S3 or in an archive: brought once, checked, unpacked with care, whole or not at all."""

import hashlib
import io
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from servers.ray_cluster import free_ports
from servers.s3 import S3Server
from servers.small_disk import small_disk
from small_images import write_images
from specs.dataset import Dataset
from workers.data import DataError, load_images, origins_in_s3
from workers.data.objects import Remote, bring, listed
from workers.storage import bucket
from workers.storage.bucket import Bucket


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of three training images and two test images."""
    return write_images(tmp_path_factory.mktemp("data") / "pets", train=3, test=2, height=6, width=5)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDOID_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def fingerprint(root: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of the same images in a plain folder."""
    return load_images(Dataset(name="image_folder", root=str(root)), tmp_path_factory.mktemp("plain")).fingerprint


@pytest.fixture
def prefix(s3_keys: S3Server, tmp_path: Path) -> str:
    return f"{tmp_path.parent.name}/{tmp_path.name}"


def upload(server: S3Server, root: Path, prefix: str) -> str:
    """Every file of a folder, and an empty object for each folder, as some tools make them."""
    client = server.client()
    for path in root.rglob("*"):
        key = f"{prefix}/{path.relative_to(root)}"
        body = path.read_bytes() if path.is_file() else b""
        client.put_object(Bucket=server.bucket, Key=key if path.is_file() else f"{key}/", Body=body)
    return f"s3://{server.bucket}/{prefix}"


def pets(place: str | Path, server: S3Server | None = None) -> Dataset:
    return Dataset(name="image_folder", root=str(place), endpoint=server and server.endpoint)


def packed(root: Path, folder: Path, suffix: str) -> Path:
    archive = folder / f"pets{suffix}"
    if suffix == ".zip":
        shutil.make_archive(str(archive.with_suffix("")), "zip", root)
    else:
        kind = {"": "w", ".gz": "w:gz", ".tgz": "w:gz", ".xz": "w:xz"}[suffix.removeprefix(".tar")]
        with tarfile.open(archive, kind) as tar:  # type: ignore[call-overload]
            tar.add(root, "pets")
    return archive


def left_in(cache: Path) -> list[str]:
    """Entries of fetched data, whole or not."""
    return [path.name for place in cache.glob("fetched-*") if place.is_dir() for path in place.iterdir()]


class TestS3:
    def test_a_folder_gives_what_the_files_give(
        self, s3_keys: S3Server, root: Path, prefix: str, fingerprint: str
    ) -> None:
        assert load_images(pets(upload(s3_keys, root, prefix), s3_keys)).fingerprint == fingerprint

    def test_is_fetched_once_and_again_when_it_changes(
        self, s3_keys: S3Server, root: Path, prefix: str, fingerprint: str, cache: Path
    ) -> None:
        place = upload(s3_keys, root, prefix)
        load_images(pets(place, s3_keys))
        (entry,) = left_in(cache)
        mark = next(cache.glob(f"fetched-*/{entry}")) / "mark"
        mark.touch()
        assert load_images(pets(place, s3_keys)).fingerprint == fingerprint
        assert left_in(cache) == [entry]
        assert mark.exists(), "it was fetched anew"
        other = (root / "train" / "dog" / "0.png").read_bytes()
        s3_keys.client().put_object(Bucket=s3_keys.bucket, Key=f"{prefix}/train/cat/0.png", Body=other)
        assert load_images(pets(place, s3_keys)).fingerprint != fingerprint
        assert len(left_in(cache)) == 2

    def test_many_processes_fetch_once(self, s3_keys: S3Server, root: Path, prefix: str, cache: Path) -> None:
        dataset = pets(upload(s3_keys, root, prefix), s3_keys)
        code = f"""
import sys
from workers.data import origins_in_s3, load_images
from specs.dataset import Dataset
bring = origins_in_s3.objects.bring
origins_in_s3.objects.bring = lambda *these: (print("fetched", flush=True), bring(*these))
load_images(Dataset.model_validate({dataset.model_dump()!r}))
"""
        processes = [
            subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)
        ]
        assert sorted(process.communicate()[0] for process in processes) == ["", "", "fetched\n"]
        assert [process.returncode for process in processes] == [0, 0, 0]
        assert len(left_in(cache)) == 1

    @pytest.mark.parametrize("suffix", [".tar.gz", ".zip"])
    def test_an_archive(
        self, s3_keys: S3Server, root: Path, prefix: str, fingerprint: str, tmp_path: Path, cache: Path, suffix: str
    ) -> None:
        archive = packed(root, tmp_path, suffix)
        client = s3_keys.client()
        client.upload_file(str(archive), s3_keys.bucket, f"{prefix}/{archive.name}")
        place = f"s3://{s3_keys.bucket}/{prefix}/{archive.name}"
        assert load_images(pets(place, s3_keys)).fingerprint == fingerprint
        assert not any(name.startswith(".") for name in left_in(cache)), "the archive itself is not kept"

    def test_a_checksum_beside_an_archive_is_heeded(
        self, s3_keys: S3Server, root: Path, prefix: str, tmp_path: Path
    ) -> None:
        archive = packed(root, tmp_path, ".tar.gz")
        client, key = s3_keys.client(), f"{prefix}/{archive.name}"
        client.upload_file(str(archive), s3_keys.bucket, key)
        client.put_object(Bucket=s3_keys.bucket, Key=f"{key}.sha256", Body=b"0" * 64 + b"  pets.tar.gz\n")
        dataset = pets(f"s3://{s3_keys.bucket}/{key}", s3_keys)
        with pytest.raises(DataError, match=r"pets\.tar\.gz: its SHA-256 is [0-9a-f]{64}, not that of "):
            load_images(dataset)
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        client.put_object(Bucket=s3_keys.bucket, Key=f"{key}.sha256", Body=f"{digest} *pets.tar.gz\n".encode())
        assert len(load_images(dataset).train) == 6

    def test_what_is_not_there_is_named(self, s3_keys: S3Server, prefix: str) -> None:
        place = f"s3://{s3_keys.bucket}/{prefix}"
        with pytest.raises(DataError, match=rf"dataset\.root: nothing lies below {place}/"):
            load_images(pets(place, s3_keys))
        with pytest.raises(DataError, match=rf"dataset\.root: there is no {place}/pets\.zip"):
            load_images(pets(f"{place}/pets.zip", s3_keys))
        with pytest.raises(
            DataError, match=r"there is no bucket 'nosuch' \(dataset\.root\) at http.*\(dataset\.endpoint\)"
        ):
            load_images(pets("s3://nosuch/pets", s3_keys))

    def test_a_server_that_is_away_is_waited_for_where_it_was_reached_before(
        self, prefix: str, monkeypatch: pytest.MonkeyPatch, s3_keys: S3Server
    ) -> None:
        class WaitsError(Exception): ...

        def wait(_: float) -> None:
            raise WaitsError

        monkeypatch.setattr(bucket, "FIRST_PATIENCE", 0.0)
        monkeypatch.setattr(bucket, "time", SimpleNamespace(monotonic=time.monotonic, sleep=wait))
        away = pets(f"s3://{s3_keys.bucket}/{prefix}", s3_keys).model_copy(
            update={"endpoint": f"http://127.0.0.1:{free_ports(1)[0]}"}
        )
        with pytest.raises(DataError, match=r"\(dataset\.endpoint\) does not answer, tried for"):
            load_images(away)
        with pytest.raises(WaitsError):
            load_images(away, reached=True)

    def test_large_objects_come_in_the_parts_they_were_put_in(
        self, s3_keys: S3Server, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Which is how the checksum of the whole can be compared with the server's."""
        client, key, parts = s3_keys.client(), f"{prefix}/large", [os.urandom(6 * 2**20), os.urandom(999)]
        upload = client.create_multipart_upload(Bucket=s3_keys.bucket, Key=key)["UploadId"]
        this = {"Bucket": s3_keys.bucket, "Key": key, "UploadId": upload}
        tags = [client.upload_part(**this, PartNumber=n, Body=part)["ETag"] for n, part in enumerate(parts, 1)]
        made = {"Parts": [{"PartNumber": n, "ETag": tag} for n, tag in enumerate(tags, 1)]}
        client.complete_multipart_upload(**this, MultipartUpload=made)
        bucket = Bucket(s3_keys.bucket, s3_keys.endpoint, "dataset.root")
        (remote,) = listed(bucket, prefix)
        seen: list[int] = []
        bring(bucket, [(remote, tmp_path / "large")], seen.append)
        assert (tmp_path / "large").read_bytes() == b"".join(parts)
        assert sorted(seen) == [999, 6 * 2**20]
        md5 = hashlib.md5
        monkeypatch.setattr("workers.data.objects.hashlib.md5", lambda data, **kind: md5(data[:-1], **kind))
        with pytest.raises(DataError, match=r"what arrived is not what the server holds: its MD5 is [0-9a-f]+-2, not "):
            bring(bucket, [(remote, tmp_path / "again")], seen.append)

    def test_an_object_that_changes_meanwhile_is_refused(self, s3_keys: S3Server, prefix: str, tmp_path: Path) -> None:
        client, bucket = s3_keys.client(), Bucket(s3_keys.bucket, s3_keys.endpoint, "dataset.root")
        client.put_object(Bucket=s3_keys.bucket, Key=f"{prefix}/x", Body=b"one")
        found = listed(bucket, prefix)
        client.put_object(Bucket=s3_keys.bucket, Key=f"{prefix}/x", Body=b"two")
        with pytest.raises(DataError, match="x: was changed while it was fetched; try again"):
            bring(bucket, [(found[0], tmp_path / "x")], lambda count: None)

    def test_an_object_whose_name_leads_out_is_refused(
        self, s3_keys: S3Server, root: Path, prefix: str, tmp_path: Path
    ) -> None:
        """Not every server refuses to hold one, as this one does."""
        origin = origins_in_s3.origin(upload(s3_keys, root, prefix), s3_keys.endpoint)
        origin.there.append(Remote(f"{prefix}/../evil", 1, "tag"))  # type: ignore[attr-defined]
        (tmp_path / "entry").mkdir()
        with pytest.raises(DataError, match=r"'\.\./evil' leads out of the folder"):
            origin.bring(tmp_path / "entry", lambda count: None)
        assert not list((tmp_path / "entry").iterdir())

    def test_a_killed_fetch_leaves_nothing_half(
        self, s3_keys: S3Server, root: Path, prefix: str, cache: Path, fingerprint: str
    ) -> None:
        dataset = pets(upload(s3_keys, root, prefix), s3_keys)
        code = f"""
import time
from workers.data import objects, load_images
from specs.dataset import Dataset
part, seen = objects._part, []
def slow(*these):
    found = part(*these)
    seen.append(1)
    if len(seen) > 4:
        print("half", flush=True)
        time.sleep(60)
    return found
objects._part, objects._THREADS = slow, 1
load_images(Dataset.model_validate({dataset.model_dump()!r}))
"""
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        process.send_signal(signal.SIGKILL)
        process.communicate()
        (half,) = left_in(cache)
        assert half.startswith("."), "never under the name of a whole one"
        assert load_images(dataset).fingerprint == fingerprint
        assert half not in left_in(cache)


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz", ".tar.xz", ".zip"])
class TestArchives:
    def test_give_what_the_files_give(self, root: Path, tmp_path: Path, fingerprint: str, suffix: str) -> None:
        assert load_images(pets(packed(root, tmp_path, suffix))).fingerprint == fingerprint

    @pytest.mark.parametrize("kept", [0.3, 0.9])
    def test_cut_short_are_refused(self, root: Path, tmp_path: Path, cache: Path, suffix: str, kept: float) -> None:
        archive = packed(root, tmp_path, suffix)
        data = archive.read_bytes()
        if suffix == ".tar":
            data = data.rstrip(b"\0")
            kept = kept if kept < 0.5 else int(kept * len(data)) // 512 * 512 / len(data)  # between two members
        archive.write_bytes(data[: round(kept * len(data))])
        with pytest.raises(DataError, match=rf"pets{suffix}: damaged or cut short: "):
            load_images(pets(archive))
        assert left_in(cache) == []

    def test_with_a_flipped_bit_never_give_other_data(
        self, root: Path, tmp_path: Path, cache: Path, fingerprint: str, suffix: str
    ) -> None:
        """Refused, unless it is a date or the like that was hit. A .tar has no checksums but the one beside it."""
        archive = packed(root, tmp_path, suffix)
        whole = archive.read_bytes()
        if suffix == ".tar":
            archive.with_name("pets.tar.sha256").write_text(f"{hashlib.sha256(whole).hexdigest()}  pets.tar\n")
        refused = 0
        for place in np.linspace(0, len(whole) - 1, 12).astype(int):
            archive.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            os.utime(archive, ns=(0, int(place)))  # of the same size, it might be taken for the one before
            try:
                assert load_images(pets(archive)).fingerprint == fingerprint, f"byte {place}"
            except DataError:
                refused += 1
        assert refused >= 4  # of a .zip as small as this, most is names and dates
        assert not any(name.startswith(".") for name in left_in(cache))


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, link
    return found


def zip_member(name: str, kind: int = stat.S_IFREG) -> zipfile.ZipInfo:
    found = zipfile.ZipInfo(name)
    found.external_attr = (kind | 0o644) << 16
    return found


@pytest.mark.parametrize("evil", ["../evil", "/tmp/evil", "train/../../evil", "train\\..\\..\\evil"])
@pytest.mark.parametrize("suffix", [".tar", ".zip"])
def test_names_that_lead_out_are_refused(tmp_path: Path, cache: Path, evil: str, suffix: str) -> None:
    archive = tmp_path / f"evil{suffix}"
    if suffix == ".tar":
        with tarfile.open(archive, "w") as tar:
            tar.addfile(member(evil), io.BytesIO())
    else:
        with zipfile.ZipFile(archive, "w") as made:
            made.writestr(zip_member(evil), b"evil")
    with pytest.raises(DataError, match="leads out of the folder it is unpacked into: refused"):
        load_images(pets(archive))
    assert left_in(cache) == []
    assert not list(tmp_path.rglob("evil"))
    assert not Path("/tmp/evil").exists()


@pytest.mark.parametrize(
    ("add", "kind"),
    [
        (lambda tar: tar.addfile(member("train", tarfile.SYMTYPE, "/etc")), "a link"),
        (lambda tar: tar.addfile(member("train/x", tarfile.LNKTYPE, "../../x")), "a link"),
        (lambda tar: tar.addfile(member("null", tarfile.CHRTYPE)), "a device or a pipe"),
        (lambda tar: tar.addfile(member("pipe", tarfile.FIFOTYPE)), "a device or a pipe"),
    ],
)
def test_links_and_devices_are_refused(
    tmp_path: Path, cache: Path, add: Callable[[tarfile.TarFile], None], kind: str
) -> None:
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        add(tar)
    with pytest.raises(DataError, match=f"is {kind}; only files and folders may be in an archive"):
        load_images(pets(tmp_path / "evil.tar"))
    assert left_in(cache) == []


def test_links_in_zips_are_refused(tmp_path: Path, cache: Path) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as made:
        made.writestr(zip_member("train", stat.S_IFLNK), b"/etc")
    with pytest.raises(DataError, match="'train' is a link"):
        load_images(pets(tmp_path / "evil.zip"))
    assert left_in(cache) == []


def test_a_disk_without_room_is_named(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is fetched fits, by the archive's size; what it unpacks to does not."""
    with small_disk(tmp_path / "small", "64k") as small:
        monkeypatch.setenv("MEDOID_CACHE", str(small))
        with tarfile.open(tmp_path / "bomb.tar.gz", "w:gz") as tar:
            entry = member("zeros")
            entry.size = 10_000_000
            tar.addfile(entry, io.BytesIO(bytes(entry.size)))
        with pytest.raises(DataError, match=r"bomb\.tar\.gz: cannot be unpacked into .*: No space left on device"):
            load_images(pets(tmp_path / "bomb.tar.gz"))
        assert left_in(small) == []
        (tmp_path / "large.tar").write_bytes(bytes(100_000))
        with pytest.raises(DataError, match=r"large\.tar takes 0\.0 GB, and .* has 0\.0 GB free; set MEDOID_CACHE"):
            load_images(pets(tmp_path / "large.tar"))


def test_progress_is_told(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.data.fetching._TELL", 0.0)
    archive = packed(root, tmp_path, ".tar.gz")
    told: list[str] = []
    load_images(pets(archive), notify=told.append)
    assert told[-1].startswith(f"fetching {archive}: ")
    assert "100% of 0.0 GB" in told[-1]


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "pets.zip").mkdir()
    with pytest.raises(DataError, match=r"dataset\.root: .*pets\.zip is not a file"):
        load_images(pets(tmp_path / "pets.zip"))
    with pytest.raises(DataError, match=r"dataset\.root: .*gone\.tar cannot be read: No such file"):
        load_images(pets(tmp_path / "gone.tar"))


def test_killed_while_unpacking_another_begins_anew(root: Path, tmp_path: Path, cache: Path, fingerprint: str) -> None:
    archive = packed(root, tmp_path, ".tar.gz")
    code = f"""
import shutil, time
from workers.data import load_images
from specs.dataset import Dataset
copy, seen = shutil.copyfileobj, []
def slow(*these):
    copy(*these)
    seen.append(1)
    if len(seen) == 3:
        print("half", flush=True)
        time.sleep(60)
shutil.copyfileobj = slow
load_images(Dataset(name="image_folder", root={str(archive)!r}))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    process.kill()
    process.communicate()
    time.sleep(0.1)
    (half,) = left_in(cache)
    assert half.startswith(".")
    assert load_images(pets(archive)).fingerprint == fingerprint
    assert half not in left_in(cache)
