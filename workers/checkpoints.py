"""Checkpoints: whole or not there, checksummed, and read without unpickling arbitrary objects."""

import hashlib
import io
import pickle
from collections.abc import Callable
from typing import Any

import torch

from workers.records import checkpoint_key, trial_key
from workers.storage import DamagedBlobError, Storage

_MAGIC = b"medoid checkpoint 1\n"
_KEPT = 2


class DamagedCheckpointError(RuntimeError):
    """A checkpoint whose bytes are not those that were written."""


class UnreadableCheckpointError(RuntimeError):
    """A checkpoint that is whole, and cannot be read all the same: for want of memory, or written by a newer torch."""


class Checkpoints:
    """The checkpoints of one trial. A state is a dict of tensors, numbers, strings, lists and dicts."""

    def __init__(self, storage: Storage, trial_id: str, keep: tuple[int, ...] = ()):
        self.storage = storage
        self.trial_id = trial_id
        self.keep = frozenset(keep)

    def save(self, epoch: int, state: dict[str, Any]) -> None:
        """Write the state after `epoch` epochs, then delete all but the last two and those to keep."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        payload = buffer.getvalue()
        checksum = hashlib.sha256(payload).hexdigest().encode()
        self.storage.write(checkpoint_key(self.trial_id, epoch), _MAGIC + checksum + b"\n" + payload)
        self._prune(_KEPT)

    def load(self, epoch: int) -> dict[str, Any]:
        """The state after `epoch` epochs. Raises DamagedCheckpointError and UnreadableCheckpointError, naming it."""
        key = checkpoint_key(self.trial_id, epoch)
        try:
            data = self.storage.read(key)
        except DamagedBlobError as error:
            raise DamagedCheckpointError(str(error)) from error
        if not data.startswith(_MAGIC):
            raise DamagedCheckpointError(f"{self.storage.uri}/{key} is damaged: it does not begin as a checkpoint does")
        head, payload = data[: len(_MAGIC) + 65], data[len(_MAGIC) + 65 :]
        expected = _MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n"
        if head != expected:
            raise DamagedCheckpointError(f"{self.storage.uri}/{key} is damaged: its checksum does not match")
        try:
            state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError) as error:
            raise UnreadableCheckpointError(f"{self.storage.uri}/{key} is whole but cannot be read: {error}") from error
        return state

    def load_last(self, notify: Callable[[str], None]) -> dict[str, Any] | None:
        """The last state that is whole, or None. Tells `notify` of every damaged one it passes over, and deletes it.

        Raises UnreadableCheckpointError, and deletes nothing, where what is whole cannot be read.
        """
        for epoch in reversed(self.epochs()):
            try:
                return self.load(epoch)
            except DamagedCheckpointError as error:
                notify(f"{error}; going back to the one before")
                self.storage.delete(checkpoint_key(self.trial_id, epoch))
            except FileNotFoundError:
                continue  # deleted since it was listed
        return None

    def epochs(self) -> list[int]:
        """The epochs there are checkpoints of, ascending."""
        keys = self.storage.list(trial_key(self.trial_id, "checkpoints"))
        return sorted(int(key.rsplit("/", 1)[1].split(".")[0]) for key in keys if key.endswith(".ckpt"))

    def finish(self) -> None:
        """Delete all but those to keep."""
        self._prune(0)

    def _prune(self, last: int) -> None:
        passing = [epoch for epoch in self.epochs() if epoch not in self.keep]
        for epoch in passing[: max(0, len(passing) - last)]:
            self.storage.delete(checkpoint_key(self.trial_id, epoch))
