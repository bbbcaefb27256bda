"""Temporary folders that are removed even where the process that made them was killed: by the next one to make one."""

import contextlib
import fcntl
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_HELD = ".held"  # locked by the process that uses the folder, for as long as it lives
_making = threading.Lock()


@contextlib.contextmanager
def scratch(purpose: str) -> Iterator[str]:
    """A new folder below the system's temporary one, named `medoid-<purpose>-…`, until the context ends.

    Those of the same purpose whose processes were killed are removed.
    """
    folder, held = _made(f"medoid-{purpose}-")
    try:
        with held:
            yield str(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _made(prefix: str) -> tuple[Path, IO[str]]:
    """A new folder, and the file in it that is locked; one thread at a time, or it might be taken for abandoned."""
    with _making:
        for old in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
            _remove_abandoned(old)
        while True:
            folder = Path(tempfile.mkdtemp(prefix=prefix))
            held = open(folder / _HELD, "w")  # noqa: SIM115 - stays open for as long as the folder is used
            fcntl.flock(held, fcntl.LOCK_EX)
            if (folder / _HELD).exists():
                return folder, held
            held.close()  # another process came between the two lines and took it for abandoned


def _remove_abandoned(folder: Path) -> None:
    try:
        with open(folder / _HELD, "r+") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        pass  # held by a living process, being made or removed at this moment, or another user's
