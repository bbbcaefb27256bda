"""Reads spec files: YAML with line numbers, `extends`, `--set`, and errors that point at the place."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from specs.errors import Problem, SpecError, nearest
from specs.experiment import SweepSpec
from specs.schema import keys_at

LIBRARY = Path(__file__).parent / "library"
Place = tuple[str | int, ...]
AXES = ("grid", "zip", "sample")


class _Loader(yaml.SafeLoader):
    """YAML 1.2's scalars: `off`, `on`, `no` and `yes` are words, `1e-4` is a number."""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


@dataclass
class Source:
    """A spec before validation: plain data, and where each value was written."""

    data: dict[str, Any] = field(default_factory=dict)
    places: dict[Place, tuple[str, int | None]] = field(default_factory=dict)
    file: str = ""

    def where(self, path: Place) -> tuple[str, int | None]:
        """File and line of a value, or of the nearest part around it that was written."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return self.file, None


def load(spec: str | Path, overrides: Sequence[str] = ()) -> SweepSpec:
    """Read and check a spec file (or a library spec, by name), with `a.b=value` overrides.

    Raises SpecError with everything that is wrong. Trials are checked too, as `specs.expansion.expand` does.
    """
    from specs.expansion import expand

    source = read(spec, overrides)
    sweep = validate(source)
    expand(sweep, source)
    return sweep


def read(spec: str | Path, overrides: Sequence[str] = ()) -> Source:
    """Read a spec file with its bases and overrides, without validating it."""
    source = _read_file(find(spec), ())
    for override in overrides:
        _override(source, override)
    return source


def find(spec: str | Path) -> Path:
    """The file meant by a path or by the name of a library spec."""
    path = Path(spec)
    if path.is_dir():
        raise SpecError([Problem("is a folder; a spec is a YAML file", file=str(path))])
    if path.exists():
        return path
    named = LIBRARY / f"{path.name}.yaml"
    if str(path) == path.name and named.exists():
        return named
    library = sorted(entry.stem for entry in LIBRARY.glob("*.yaml"))
    hint = nearest(path.name, library) if str(path) == path.name else ""
    raise SpecError([Problem(f"no such file{hint}; library specs: {', '.join(library)}", file=str(path))])


def validate(source: Source) -> SweepSpec:
    """Check the data of a spec, all of it at once."""
    try:
        return SweepSpec.model_validate(source.data)
    except ValidationError as error:
        raise SpecError(problems(error, source, source.data)) from None


def problems(error: ValidationError, source: Source, data: Any, prefix: str = "") -> list[Problem]:
    """Pydantic's errors in the terms of the spec file."""
    found = []
    for detail in error.errors(include_url=False):
        location = detail["loc"]
        path = user_path(location, data)
        kind, context = detail["type"], detail.get("ctx", {})
        has_value = kind not in ("missing", "extra_forbidden", "value_error")
        message = detail["msg"].removeprefix("Input ").removeprefix("Value error, ")
        if (
            kind == "value_error" and not path
        ):  # a check across sections: "section.field: message", one a line
            for line in message.split("\n"):
                dotted, text = line.split(": ", 1)
                found.append(_problem(source, tuple(dotted.split(".")), prefix + text))
            continue
        if kind == "extra_forbidden":
            allowed = keys_at(location[:-1])
            message = f"unknown key{nearest(str(path[-1]), allowed)}; allowed: {', '.join(allowed)}"
        elif kind == "missing":
            message = "required, and missing"
        elif kind in ("union_tag_invalid", "union_tag_not_found"):
            tags = context.get("expected_tags", "").replace("'", "")
            if kind == "union_tag_invalid":
                path, detail["input"] = (*path, "name"), context["tag"]
                message = f"no such name{nearest(context['tag'], tags.split(', '))}; allowed: {tags}"
            else:
                message = "needs a name"
        elif kind == "literal_error":
            expected = context["expected"].replace("'", "")
            choices = expected.replace(" or ", ", ")
            message = f"not allowed{nearest(str(detail['input']), choices.split(', '))}; allowed: {choices}"
        elif kind == "string_pattern_mismatch":
            message = "lower-case letters, digits, '_', '-' and '.' only, a letter or digit first, at most 63"
        elif kind == "value_error":
            has_value = not isinstance(detail["input"], dict)
        found.append(_problem(source, path, prefix + message, detail["input"], has_value))
    return found


def _problem(
    source: Source, path: Place, message: str, value: Any = None, has_value: bool = False
) -> Problem:
    file, line = source.where(path)
    return Problem(message, dotted(path), file, line, value, has_value)


def dotted(path: Iterable[str | int]) -> str:
    """`('augmentation', 'weak', 0)` as `augmentation.weak[0]`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def user_path(location: Sequence[str | int], data: Any) -> Place:
    """A pydantic location without the union tags, which the user did not write."""
    path: list[str | int] = []
    for index, step in enumerate(location):
        last = index == len(location) - 1
        if isinstance(data, dict):
            if step in data:
                data = data[step]
            elif data.get("name") == step and not last:
                continue
            else:
                data = None
        elif isinstance(data, list | tuple) and isinstance(step, int) and step < len(data):
            data = data[step]
        elif isinstance(data, str):  # a bare name, standing for {name: ...}
            if data == step:
                continue
            data = None
        path.append(step)
    return tuple(path)


def _read_file(path: Path, above: tuple[Path, ...]) -> Source:
    shown = str(path)
    if path.resolve() in above:
        raise SpecError([Problem("extends itself, by way of its bases", "extends", shown)])
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SpecError([Problem(f"cannot be read: {reason}", file=shown)]) from None
    own = Source(file=shown)
    data = _parse(text, shown, own.places)
    if not isinstance(data, dict):
        raise SpecError(
            [
                Problem(
                    "a spec is a mapping of sections, such as name:, dataset:, training:", file=shown, line=1
                )
            ]
        )
    own.data = data
    base = data.pop("extends", None)
    if base is None:
        return own
    if not isinstance(base, str):
        file, line = own.where(("extends",))
        raise SpecError([Problem("should be the path of a spec file", "extends", file, line, base, True)])
    relative = path.parent / base
    try:
        below = _read_file(relative if relative.exists() else find(base), (*above, path.resolve()))
    except SpecError as error:
        _, line = own.where(("extends",))
        if len(error.problems) == 1 and "no such file" in error.problems[0].message:
            raise SpecError(
                [Problem(error.problems[0].message, "extends", shown, line, base, True)]
            ) from None
        raise
    return Source(_merge(below.data, own.data), below.places | own.places, shown)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _parse(
    text: str,
    file: str,
    places: dict[Place, tuple[str, int | None]],
    prefix: Place = (),
    line: int | None = None,
) -> Any:
    """Parse YAML, recording the line of every value; duplicate keys are refused."""
    loader = _Loader(text)

    def build(node: yaml.Node, path: Place) -> Any:
        places[path] = (file, line or node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            built: dict[Any, Any] = {}
            for key_node, value_node in node.value:
                key = loader.construct_object(key_node, deep=True)
                if not isinstance(key, str):
                    key = key_node.value if isinstance(key_node, yaml.ScalarNode) else str(key)
                if key in built:
                    raise SpecError(
                        [
                            Problem(
                                "this key stands here twice",
                                dotted((*path, key)),
                                file,
                                key_node.start_mark.line + 1,
                            )
                        ]
                    )
                built[key] = build(value_node, (*path, key))
                places[(*path, key)] = (file, line or key_node.start_mark.line + 1)
            return built
        if isinstance(node, yaml.SequenceNode):
            return [build(item, (*path, index)) for index, item in enumerate(node.value)]
        return loader.construct_object(node, deep=True)

    try:
        root = loader.get_single_node()
        return {} if root is None else build(root, prefix)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        reason = " ".join(part for part in (error.context, error.problem) if part)
        raise SpecError(
            [Problem(f"not valid YAML: {reason}", file=file, line=mark.line + 1 if mark else None)]
        ) from None
    except yaml.YAMLError as error:
        raise SpecError([Problem(f"not valid YAML: {error}", file=file)]) from None
    finally:
        loader.dispose()


def _override(source: Source, override: str) -> None:
    """Apply `a.b=value`; under sweep.grid, zip and sample all that follows is one key."""
    shown = f"--set {override}"
    name, separator, text = override.partition("=")
    steps = tuple(name.strip().split("."))
    if not separator or not all(steps):
        raise SpecError([Problem("should be field=value, such as --set training.epochs=5", file=shown)])
    if steps[0] == "sweep" and len(steps) > 3 and steps[1] in AXES:
        steps = (*steps[:2], ".".join(steps[2:]))
    axes = source.data.get("sweep")
    for axis in AXES:
        if isinstance(axes, dict) and isinstance(axes.get(axis), dict) and name in axes[axis]:
            raise SpecError([Problem(f"this field is swept; set sweep.{axis}.{name} instead", name, shown)])
    where = source.data
    for step in steps[:-1]:
        inner = where.setdefault(step, {})
        if not isinstance(inner, dict):
            raise SpecError([Problem(f"{step} holds a value, not a section", name, shown)])
        where = inner
    for place in [place for place in source.places if place[: len(steps)] == steps]:
        del source.places[place]
    value = _parse(text, shown, source.places, steps)
    for place in [place for place in source.places if place[: len(steps)] == steps]:
        source.places[place] = (shown, None)
    where[steps[-1]] = None if text.strip() in ("null", "~") else value
