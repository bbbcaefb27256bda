"""The wheel: built from a clean copy, installed elsewhere, used from outside the repository."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("specs", "selection", "workers", "orchestrator")
DATA = (".yaml", ".npz", ".j2", ".css")


def run(*arguments: str | Path, cwd: Path, path: Path | None = None) -> str:
    """Run Python with only `path` added to what is installed; its output, or a failed test."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    run("-m", "build", "--wheel", "--no-isolation", "--outdir", source / "dist", ".", cwd=source)
    (built,) = (source / "dist").glob("medoid-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("installed")
    run("-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--target", place, wheel, cwd=place)
    return place


def test_wheel_holds_every_module_and_data_file(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in (".py", *DATA)
    }
    assert names == expected
    assert {"specs/library/quickstart.yaml", "workers/data/digits.npz", "orchestrator/report/page.html.j2"} <= names


def test_installed_packages_import_from_outside_the_repository(installed: Path, tmp_path: Path) -> None:
    code = f"import {', '.join(PACKAGES)}; print({', '.join(f'{name}.__file__' for name in PACKAGES)}, sep='\\n')"
    found = run("-c", code, cwd=tmp_path, path=installed).split()
    assert [Path(file).parent for file in found] == [installed / name for name in PACKAGES]


def test_installed_command_validates_the_quick_start(installed: Path, tmp_path: Path) -> None:
    code = "import orchestrator.cli, specs; print(orchestrator.cli.__file__, specs.__file__)"
    for file in run("-c", code, cwd=tmp_path, path=installed).split():
        assert Path(file).is_relative_to(installed)
    listed = run("-m", "orchestrator.cli", "validate", "quickstart", cwd=tmp_path, path=installed)
    assert "quickstart" in listed.splitlines()[0]
    assert "coreset" in listed
    assert "orchestrator.cli:main" in next(installed.glob("medoid-*.dist-info/entry_points.txt")).read_text()
    assert not list(tmp_path.iterdir()), "validating writes nothing"
