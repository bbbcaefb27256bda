"""Checkpoints: exact, checked, harmless to read, and no more of them than asked."""

import hashlib
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from workers.checkpoints import Checkpoints, DamagedCheckpointError, UnreadableCheckpointError
from workers.records import checkpoint_key
from workers.storage import LocalStorage

TRIAL = "abc"


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path)


@pytest.fixture
def checkpoints(storage: LocalStorage) -> Checkpoints:
    return Checkpoints(storage, TRIAL)


def state(epoch: int) -> dict[str, Any]:
    weights = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(epoch))
    return {
        "epoch": epoch,
        "model": {"weight": weights.to(memory_format=torch.channels_last), "steps": torch.tensor(7)},
        "chosen": {"ids": [5, 1], "weights": [1 / 3, 5 / 3]},
        "none": None,
        "history": '{"records": []}',
    }


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b) and a.stride() == b.stride() and a.dtype == b.dtype
    return type(a) is type(b) and a == b


def test_round_trip(checkpoints: Checkpoints) -> None:
    checkpoints.save(3, state(3))
    assert equal(checkpoints.load(3), state(3))
    assert equal(checkpoints.load_last(pytest.fail), state(3))


def test_nothing_saved(checkpoints: Checkpoints) -> None:
    assert checkpoints.epochs() == []
    assert checkpoints.load_last(pytest.fail) is None


class TestKept:
    def test_the_last_two(self, checkpoints: Checkpoints) -> None:
        kept = []
        for epoch in (2, 4, 6, 100_000):
            checkpoints.save(epoch, state(epoch))
            kept.append(checkpoints.epochs())
        assert kept == [[2], [2, 4], [4, 6], [6, 100_000]]
        assert equal(checkpoints.load_last(pytest.fail), state(100_000))
        checkpoints.finish()
        assert checkpoints.epochs() == []

    def test_beside_those_to_keep(self, storage: LocalStorage) -> None:
        checkpoints = Checkpoints(storage, TRIAL, keep=(1, 4))
        for epoch in range(1, 7):
            checkpoints.save(epoch, state(epoch))
        assert checkpoints.epochs() == [1, 4, 5, 6]
        checkpoints.finish()
        assert checkpoints.epochs() == [1, 4]

    def test_trials_do_not_touch_each_other(self, storage: LocalStorage, checkpoints: Checkpoints) -> None:
        checkpoints.save(1, state(1))
        Checkpoints(storage, "abcd").save(2, state(2))
        Checkpoints(storage, "abcd").finish()
        assert checkpoints.epochs() == [1]


def flipped(data: bytes) -> bytes:
    place = len(data) // 2
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "a flipped bit": flipped,
    "a flipped bit in the checksum": lambda data: data[:25] + bytes([data[25] ^ 1]) + data[26:],
    "truncated": lambda data: data[: len(data) // 2],
    "truncated in the head": lambda data: data[:30],
    "one byte short": lambda data: data[:-1],
    "one byte more": lambda data: data + b"\0",
    "empty": lambda data: b"",
    "wrong magic": lambda data: data.replace(b"medoid checkpoint 1", b"medoid checkpoint 9", 1),
    "no head": lambda data: data[data.index(b"PK") :],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
class TestDamaged:
    def test_is_detected_and_named(
        self, storage: LocalStorage, checkpoints: Checkpoints, damage: Callable[[bytes], bytes]
    ) -> None:
        checkpoints.save(2, state(2))
        self.damage(storage, 2, damage)
        with pytest.raises(DamagedCheckpointError, match=r"checkpoints/00002\.ckpt is damaged"):
            checkpoints.load(2)

    def test_the_one_before_is_used(
        self, storage: LocalStorage, checkpoints: Checkpoints, damage: Callable[[bytes], bytes]
    ) -> None:
        for epoch in (2, 4):
            checkpoints.save(epoch, state(epoch))
        self.damage(storage, 4, damage)
        notes: list[str] = []
        assert equal(checkpoints.load_last(notes.append), state(2))
        assert len(notes) == 1
        assert f"trials/{TRIAL}/checkpoints/00004.ckpt" in notes[0]
        checkpoints.save(3, state(3))
        assert equal(checkpoints.load_last(pytest.fail), state(3)), "a damaged one must not count as the last"

    def test_all_damaged_starts_anew(
        self, storage: LocalStorage, checkpoints: Checkpoints, damage: Callable[[bytes], bytes]
    ) -> None:
        for epoch in (2, 4):
            checkpoints.save(epoch, state(epoch))
            self.damage(storage, epoch, damage)
        notes: list[str] = []
        assert checkpoints.load_last(notes.append) is None
        assert ["00004" in notes[0], "00002" in notes[1], len(notes)] == [True, True, 2]

    @staticmethod
    def damage(storage: LocalStorage, epoch: int, damage: Callable[[bytes], bytes]) -> None:
        key = checkpoint_key(TRIAL, epoch)
        before = storage.read(key)
        assert damage(before) != before
        storage.write(key, damage(before))


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def torch_saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def pickled(value: Any) -> bytes:
    return pickle.dumps(value, protocol=2)  # torch's


@pytest.mark.parametrize("pack", [pickled, torch_saved])
def test_code_in_a_pickle_is_not_executed(
    storage: LocalStorage, checkpoints: Checkpoints, tmp_path: Path, pack: Callable[[Any], bytes]
) -> None:
    """Not even with the right checksum, which whoever forges one can compute."""
    payload = pack({"epoch": 1, "model": Bomb(tmp_path / "executed")})
    checksum = hashlib.sha256(payload).hexdigest().encode()
    storage.write(checkpoint_key(TRIAL, 1), b"medoid checkpoint 1\n" + checksum + b"\n" + payload)
    with pytest.raises(UnreadableCheckpointError, match=r"00001\.ckpt is whole but cannot be read"):
        checkpoints.load(1)
    with pytest.raises(UnreadableCheckpointError):
        checkpoints.load_last(pytest.fail)
    assert checkpoints.epochs() == [1], "what is whole is not deleted"
    assert not (tmp_path / "executed").exists()
    pickle.loads(pickle.dumps(Bomb(tmp_path / "executed")))
    assert (tmp_path / "executed").exists(), "the bomb is a dud: this test proves nothing"
