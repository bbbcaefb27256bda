"""A small spec that is right, to be bent in one place at a time."""

from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

import specs

GOOD = {
    "name": "small",
    "dataset": "{name: digits}",
    "model": "{name: mlp}",
    "training": "{regime: subset, epochs: 3}",
    "selection": "{fraction: 0.1}",
}

WriteSpec = Callable[..., Path]
Complaints = Callable[..., list[str]]


@pytest.fixture
def write_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteSpec:
    """Write a spec, one section a line: `name` on line 1 to `selection` on line 5, then what is added.

    A section given as None is left out. The working directory is the file's folder, so that errors show bare names.
    """
    monkeypatch.chdir(tmp_path)

    def write(file: str = "spec.yaml", /, **sections: str | None) -> Path:
        lines = {**GOOD, **sections}
        text = "".join(f"{key}: {value}\n" for key, value in lines.items() if value is not None)
        Path(file).write_text(text, encoding="utf-8")
        return Path(file)

    return write


@pytest.fixture
def write_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write a spec file as given."""
    monkeypatch.chdir(tmp_path)

    def write(text: str, file: str = "spec.yaml") -> Path:
        Path(file).write_text(text, encoding="utf-8")
        return Path(file)

    return write


@pytest.fixture(scope="session")
def validator() -> jsonschema.Draft202012Validator:
    """Checks plain data against the JSON schema of spec files."""
    return jsonschema.Draft202012Validator(specs.json_schema())


@pytest.fixture
def complaints() -> Complaints:
    """The lines of the error that loading a spec raises."""

    def load(spec: str | Path, *overrides: str) -> list[str]:
        with pytest.raises(specs.SpecError) as caught:
            specs.load(spec, overrides)
        return str(caught.value).split("\n")

    return load
