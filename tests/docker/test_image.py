"""Dockerfile: linted, pinned, not root, and made of what the package is made of."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from deployment import FOLDER, ROOT

TEXT = (FOLDER / "Dockerfile").read_text()
COPIED = [source for line in re.findall(r"^COPY (?!--from)(.*) \S+$", TEXT, re.MULTILINE) for source in line.split()]


def test_hadolint_finds_nothing() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    linted = subprocess.run([linter, FOLDER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout + linted.stderr) == (0, "")


def test_hadolint_finds_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(TEXT.replace("FROM nvidia/cuda:13.0.2-base-ubuntu24.04", "FROM nvidia/cuda"))
    linter = Path(sys.executable).with_name("hadolint")
    assert subprocess.run([linter, tmp_path / "Dockerfile"], capture_output=True, check=False).returncode


def test_bases_are_pinned_and_the_user_is_not_root() -> None:
    stages = re.findall(r"^FROM (\S+)(?: AS (\w+))?$", TEXT, re.MULTILINE)
    names = {name for _, name in stages if name}
    bases = {image for image, _ in stages} - names
    assert bases == {
        "ghcr.io/astral-sh/uv:0.11.23@sha256:d0a0a753ab981624b49c97abc98821c1c09f4ca69d1ef5cee69c501be3d88479",
        "nvidia/cuda:13.0.2-base-ubuntu24.04",
    }
    assert re.findall(r"^USER (.*)$", TEXT, re.MULTILINE) == ["10001:10001"]
    assert set(re.findall(r"--from=(\w+)|from=(\w+),", TEXT)) == {("dependencies", ""), ("", "uv"), ("", "package")}


def test_it_is_made_of_the_package_and_its_pinned_versions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.split(".")[0] for name in project["tool"]["setuptools"]["packages"]}
    assert set(COPIED) == packages | {"pyproject.toml", "constraints.txt", "README.md"}
    assert TEXT.count("constraint constraints.txt") == 2
    assert re.search(r"--extra (\w+)", TEXT)[1] in project["project"]["optional-dependencies"]  # type: ignore[index]
    assert project["tool"]["ruff"]["target-version"] == "py311"
    assert "uv python install 3.11 " in TEXT
    assert f"-t medoid:{project['project']['version']}" in TEXT


def test_the_builder_is_sent_that_and_nothing_else() -> None:
    lines = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == set(COPIED)
    assert all((ROOT / source).exists() for source in COPIED)
