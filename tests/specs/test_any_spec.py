"""Whatever stands in a spec, reading it gives a sweep or a SpecError, never another exception."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import specs
from specs.schema import sweepable_fields

GOOD = {
    "name": "small",
    "dataset": {"name": "digits"},
    "model": {"name": "mlp"},
    "training": {"regime": "subset", "epochs": 3},
    "selection": {"fraction": 0.1},
}
SECTIONS = (
    "name",
    "seeds",
    "sweep",
    "sweep.grid",
    "sweep.zip",
    "sweep.sample",
    "sweep.asha",
    "sweep.samples",
    "storage",
)
WORDS = st.sampled_from(["name", "cosine", "milestones", "cutout", "coreset", "digits", "epochs", "é", ""])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | WORDS
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=6
)
FIELDS = st.sampled_from(sorted(sweepable_fields()) + list(SECTIONS))
FAST = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(data: object, overrides: list[str] | None = None) -> None:
    Path("spec.yaml").write_text(json.dumps(data), encoding="utf-8")
    with contextlib.suppress(specs.SpecError):
        specs.load("spec.yaml", overrides or ())


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@FAST
@given(field=FIELDS, value=VALUES)
def test_any_value_in_any_field(field, value):
    data = json.loads(json.dumps(GOOD))
    *sections, last = field.split(".")
    where = data
    for section in sections:
        where = where.setdefault(section, {})
    where[last] = value
    read(data)


@FAST
@given(axis=st.sampled_from(["grid", "zip"]), field=FIELDS, values=st.lists(VALUES, max_size=3))
def test_any_value_on_any_axis(axis, field, values):
    read({**GOOD, "sweep": {axis: {field: values}}})


@FAST
@given(field=FIELDS, value=VALUES | st.text(max_size=8))
def test_any_override(field, value):
    read(GOOD, [f"{field}={value if isinstance(value, str) else json.dumps(value)}"])
    read(GOOD, [str(value)])


@FAST
@given(st.text(max_size=40) | VALUES)
def test_any_text(text):
    Path("spec.yaml").write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    with pytest.raises(specs.SpecError):
        specs.load("spec.yaml")
