"""The JSON schema that editors check spec files with. What it refuses is tested beside the errors of bad specs."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml

import specs
from specs.loading import LIBRARY, read
from specs.schema import sweepable_fields

GOOD_SECTIONS: list[dict[str, str | None]] = [
    {},
    {"seeds": "[0, 1]", "description": "text", "tracking": "{uri: null}"},
    {"selection": "{tolerance: 2}", "checkpoints": "{every: 2, keep: [1, 2]}"},
    {"selection": "{fraction: 0.1, mode: overlapped, every: 3, lag: 2}"},
    {
        "selection": "{fraction: 0.1, proxy_source: harvest}",
        "training": "{regime: full+augmented, epochs: 3}",
    },
    {"training": "{regime: full+augmented, epochs: 3, schedule: {name: milestones, milestones: [1, 2]}}"},
    {"training": "{regime: subset, epochs: 3, schedule: constant, optimizer: {momentum: 0.9, nesterov: true}}"},
    {"augmentation": "{weak: [random_flip, {name: random_crop}], strong: [cutout, autoaugment], copies: 2}"},
    {
        "augmentation": "{weak: [{name: random_resized_crop, size: 8, scale: [0.5, 1]}], "
        "strong: [augmix, perturb, {name: noise, epsilon: 16}], evaluation: [{name: center_crop, size: 8}]}"
    },
    {"augmentation": "{strong: [{name: loss_guided, kept: 2, mixup: {probability: 0}}], copies: 2}"},
    {"dataset": "{name: image_folder, root: data, image_size: 32}", "model": "{name: resnet20}"},
    {"sweep": "{grid: {selection: [{fraction: 0.1}], training.schedule: [cosine]}, asha: {grace_epochs: 1}}"},
    {"sweep": "{sample: {selection.fraction: {distribution: uniform, low: 0.1, high: 0.2}}, samples: 2}"},
    {"sweep": "{zip: {selection.fraction: [null, 0.1], selection.budget: [10, null]}}", "selection": None},
]


def test_it_is_a_valid_schema_of_draft_2020_12():
    schema = specs.json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)
    json.dumps(schema, allow_nan=False)


@pytest.mark.parametrize("sections", GOOD_SECTIONS)
def test_what_loads_is_valid(sections, validator, write_spec):
    spec = write_spec(**sections)
    specs.load(spec)
    validator.validate(yaml.safe_load(spec.read_text()))


@pytest.mark.parametrize("path", sorted(LIBRARY.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_library_is_valid(path, validator):
    # editors read YAML 1.2, as `read` does; to PyYAML's own loader `5e-4` is text
    validator.validate(read(path).data)


def test_a_spec_with_a_base_may_leave_out_what_the_base_has(validator):
    assert validator.is_valid({"extends": "quickstart", "training": {"epochs": 3}, "sweep": {"samples": 1}})
    assert not validator.is_valid({"extends": "quickstart", "training": {"epoch": 3}})
    assert not validator.is_valid({"training": {"epochs": 3}})


def test_a_spec_without_a_base_needs_every_required_field(validator, write_spec):
    for sections in ({"training": "{epochs: 3}"}, {"dataset": "{}"}, {"model": None}, {"name": None}):
        assert not validator.is_valid(yaml.safe_load(write_spec(**sections).read_text()))


def test_every_field_has_a_description():
    without = [path for path, node in properties(specs.json_schema()) if not node.get("description")]
    assert without == []


def properties(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field of every section of a schema."""
    for section, node in [("", schema), *schema["$defs"].items()]:
        for name, field in node.get("properties", {}).items():
            yield f"{section}.{name}", field


def test_closed_sections_all_through():
    schema = specs.json_schema()
    assert [name for name, node in schema["$defs"].items() if node.get("additionalProperties") is not False] == []
    assert schema["additionalProperties"] is False


def test_each_call_gives_a_schema_of_its_own():
    specs.json_schema().clear()
    assert specs.json_schema()["properties"]


def test_sweepable_fields_are_those_of_the_schema():
    """Two walks over the same fields, by the models and by the schema, must agree."""
    schema = specs.json_schema()
    top = {"dataset", "model", "augmentation", "training", "selection", "evaluation", "checkpoints", "resources"}

    def below(node: dict[str, Any], name: str) -> Iterator[str]:
        yield name
        for option in node.get("anyOf", [node]):
            section = schema["$defs"][option["$ref"].rsplit("/", 1)[1]] if "$ref" in option else {}
            for key, field in section.get("properties", {}).items():
                yield from below(field, f"{name}.{key}")

    assert {name for field in top for name in below(schema["properties"][field], field)} == sweepable_fields()


@pytest.mark.parametrize(
    "field", ["selection", "selection.fraction", "training.schedule.gamma", "training.optimizer", "resources.cpus"]
)
def test_editors_complete_dotted_fields(field):
    schema = specs.json_schema()
    for axis in ("grid", "zip", "sample"):
        assert field in schema["$defs"]["Axes"]["properties"][axis]["propertyNames"]["enum"]
