"""The JSON schema of spec files, and questions asked of it: which fields and values there are."""

from collections.abc import Iterator, Sequence
from functools import cache
from types import UnionType
from typing import Any, get_args

from specs.base import Section
from specs.experiment import AXES, Experiment, SweepSpec
from specs.parsing import Place

Node = dict[str, Any]
_BOUNDS = {"exclusiveMinimum": "above", "minimum": "at least", "exclusiveMaximum": "below", "maximum": "at most"}
_TYPES = {
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "string": "text",
    "object": "a mapping",
}


def json_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a spec file, for editors: YAML language servers complete and check with it."""
    schema = SweepSpec.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["properties"]["extends"] = {
        "type": "string",
        "description": "Another spec file (relative to this one) or the name of a library spec, taken as the base.",
    }
    for axis in AXES:
        schema["$defs"]["Axes"]["properties"][axis]["propertyNames"] = {"enum": sorted(sweepable_fields())}
    for section in schema["$defs"].values():
        _allow_bare_names(section, schema)
    _require_without_base(schema)
    return schema


def _require_without_base(schema: Node) -> None:
    """Ask for required fields only of files that extend no other: those may name any part of a section."""
    needed: Node = {"required": schema.pop("required"), "properties": {}}
    for field, node in schema["properties"].items():
        section = _resolve(node, schema)
        if "required" in section:
            needed["properties"][field] = {"required": section.pop("required")}
    schema["if"] = {"not": {"required": ["extends"]}}
    schema["then"] = needed


def _allow_bare_names(section: Node, root: Node) -> None:
    """`cosine` may stand for `{name: cosine}` where no other option is required."""
    for field in section.get("properties", {}).values():
        choice = field.get("items", field)
        if "discriminator" in choice:
            options = choice.pop("discriminator")["mapping"]
            bare = [name for name in sorted(options) if _resolve({"$ref": options[name]}, root)["required"] == ["name"]]
            choice["anyOf"] = [{"enum": bare}, *choice.pop("oneOf")]


@cache
def _root() -> Node:
    return SweepSpec.model_json_schema()


def _resolve(node: Node, root: Node) -> Node:
    """Follow references, and an optional field to what it holds when it is not null."""
    while True:
        if "$ref" in node:
            node = root["$defs"][node["$ref"].rsplit("/", 1)[1]]
        elif "anyOf" in node:
            (node,) = (option for option in node["anyOf"] if option.get("type") != "null")
        else:
            return node


def locate(location: Sequence[str | int]) -> tuple[Place, Node]:
    """Where in a spec one of pydantic's error locations lies, and the schema of that place.

    Pydantic's locations also name the member of a union, which the user did not write: those steps are left out.
    A place that is no field has an empty schema.
    """
    node = _root()
    path: list[str | int] = []
    for step in location:
        node = _resolve(node, _root())
        if "discriminator" in node:
            mapping = node["discriminator"]["mapping"]
            node = {"$ref": mapping[step]} if step in mapping else {}
            continue
        path.append(step)
        if isinstance(step, int):
            node = node.get("items", {})
        else:
            other = node.get("additionalProperties")
            node = node.get("properties", {}).get(step) or (other if isinstance(other, dict) else {})
    return tuple(path), node


def is_choice(path: Place) -> bool:
    """Whether a place takes one of several kinds of section, told apart by their `name`."""
    return "discriminator" in _resolve(locate(path)[1], _root())


def is_list(node: Node) -> bool:
    """Whether a field takes a list."""
    return bool(_resolve(node, _root()).get("type") == "array")


def keys(node: Node) -> tuple[str, ...]:
    """The keys of a section."""
    return tuple(_resolve(node, _root()).get("properties", ()))


def choices(node: Node) -> tuple[str, ...]:
    """The names a field can be set to, where it is a choice among names."""
    node = _resolve(node, _root())
    if "discriminator" in node:
        return tuple(sorted(node["discriminator"]["mapping"]))
    return (node["const"],) if "const" in node else tuple(node.get("enum", ()))


def allowed(node: Node) -> str:
    """What a field takes, in words: `a number, above 0, at most 1, or null`."""
    inner = _resolve(node, _root())
    if choices(node):
        text = f"one of {', '.join(choices(node))}" + (", by name or as {name: …}" if "discriminator" in inner else "")
    elif inner.get("type") == "array":
        items = f" (each {allowed(inner['items'])})" if inner["items"] else ""
        least = inner.get("minItems")
        length = f" of {least}" if least and least == inner.get("maxItems") else ", not empty" if least else ""
        text = f"a list{length}{items}"
    elif "properties" in inner:
        text = f"a section with {', '.join(inner['properties'])}"
    else:
        bounds = [f"{word} {inner[bound]}" for bound, word in _BOUNDS.items() if bound in inner]
        pattern = [f"matching {inner['pattern']}"] if "pattern" in inner else []
        filled = ["not empty"] if inner.get("minLength") else []
        text = ", ".join([_TYPES[inner["type"]], *filled, *bounds, *pattern])
    return f"{text}, or null" if "anyOf" in node else text


@cache
def sweepable_fields() -> frozenset[str]:
    """Every dotted field that a sweep may vary, whole sections included."""
    # from the models, not from the JSON schema: building that takes a good spec's reader 35 ms
    fields = Experiment.model_fields.items()
    return frozenset(name for key, field in fields for name in _below(field.annotation, key))


def _below(annotation: Any, name: str) -> Iterator[str]:
    yield name
    for part in get_args(annotation) if isinstance(annotation, UnionType) else (annotation,):
        if isinstance(part, type) and issubclass(part, Section):
            for key, field in part.model_fields.items():
                yield from _below(field.annotation, f"{name}.{key}")
