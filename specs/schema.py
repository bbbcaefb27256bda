"""The JSON schema of spec files, and questions asked of it: which fields and keys exist."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from specs.experiment import Experiment, SweepSpec


def json_schema() -> dict[str, Any]:
    """JSON schema of a spec file, for editors (YAML language servers complete and check with it)."""
    schema = SweepSpec.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["properties"]["extends"] = {
        "type": "string",
        "description": "Another spec file (relative to this one) or the name of a library spec, taken as the base.",
    }
    schema["if"] = {"not": {"required": ["extends"]}}
    schema["then"] = {"required": schema.pop("required")}
    for section in schema["$defs"].values():  # a file that extends another may name any part of a section
        if "name" not in section.get("required", ()) or "const" not in section["properties"]["name"]:
            section.pop("required", None)
    for axis in ("grid", "zip", "sample"):
        schema["$defs"]["Axes"]["properties"][axis]["propertyNames"] = {"enum": sorted(sweepable_fields())}
    _allow_bare_names(schema["$defs"])
    return schema


def _allow_bare_names(definitions: dict[str, Any]) -> None:
    """`random_flip` may stand for `{name: random_flip}` where no other option is required."""
    for section in definitions.values():
        for field in section.get("properties", {}).values():
            choice = field.get("items", field)
            if "discriminator" in choice:
                options = choice.pop("oneOf")
                names = sorted(choice.pop("discriminator")["mapping"])
                choice["anyOf"] = [{"enum": names}, *options]


@cache
def _experiment_schema() -> dict[str, Any]:
    return Experiment.model_json_schema()


@cache
def _sweep_schema() -> dict[str, Any]:
    return SweepSpec.model_json_schema()


def _resolve(node: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        node = root["$defs"][node["$ref"].rsplit("/", 1)[1]]
    return node


def keys_at(location: Sequence[str | int]) -> tuple[str, ...]:
    """The keys allowed at a place in a spec (a pydantic error location, union tags included)."""
    root = _sweep_schema()
    node = root
    for step in location:
        node = _resolve(node, root)
        if isinstance(step, int):
            node = node.get("items", {})
        elif "discriminator" in node:
            node = {"$ref": node["discriminator"]["mapping"].get(step, "#/$defs/Axes")}
        else:
            node = node.get("properties", {}).get(step, {})
    return tuple(_resolve(node, root).get("properties", ()))


def _fields(node: dict[str, Any], root: dict[str, Any], prefix: str) -> Iterator[str]:
    node = _resolve(node, root)
    for option in node.get("oneOf", ()):
        yield from _fields(option, root, prefix)
    for key, value in node.get("properties", {}).items():
        yield prefix + key
        yield from _fields(value, root, f"{prefix}{key}.")


@cache
def sweepable_fields() -> frozenset[str]:
    """Every dotted field that a sweep may vary, whole sections included."""
    root = _experiment_schema()
    return frozenset(_fields(root, root, ""))
