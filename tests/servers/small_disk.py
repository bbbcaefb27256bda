"""File systems that are soon full, or may only be read."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nothing in a folder can be opened for writing, by root neither; skips the test where that cannot be had."""
    with contextlib.ExitStack() as undo:
        for options in (["--bind", str(folder)], ["-o", "remount,bind,ro"]):
            mounted = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True, check=False)
            if mounted.returncode:
                pytest.skip(f"a folder cannot be made read-only here: {mounted.stderr.strip()}")
            if "--bind" in options:
                undo.callback(subprocess.run, ["umount", "--lazy", str(folder)], check=True)
        yield


@contextlib.contextmanager
def small_disk(folder: Path, size: str, *, lazy: bool = False) -> Iterator[Path]:
    """A new folder with room for `size` (as mount says it: 64k); the test is skipped where none can be mounted.

    lazy: processes may still hold files there at the end
    """
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", *(["--lazy"] if lazy else []), str(folder)], check=True)
