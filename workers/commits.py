"""Which commit of medoid's source is running."""

import functools
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

COMMIT = "commit"  # beside the metadata of a package that was sent from a checkout


@functools.cache
def commit() -> str:
    """The commit of medoid's source, with `+` if the tree differs from it.

    Of a package that `medoid submit` has sent: that of where it was sent from. Empty where the source is neither that
    nor a checkout, or git is not installed.
    """
    source = Path(__file__).resolve().parents[1]
    if not (source / ".git").exists():
        return _sent(source)
    if shutil.which("git") is None:
        return ""

    def git(*arguments: str) -> str:
        ran = subprocess.run(["git", "-C", str(source), *arguments], capture_output=True, text=True, check=False)
        return ran.stdout.strip()

    return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")


def _sent(source: Path) -> str:
    try:
        found = distribution("medoid")
    except PackageNotFoundError:
        return ""
    beside = Path(str(found.locate_file(""))).resolve() == source  # another one that is installed knows nothing of it
    return (found.read_text(COMMIT) or "") if beside else ""
