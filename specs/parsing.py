"""YAML text to plain data, with the line of every value."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import yaml

from specs.errors import Problem, SpecError

Place = tuple[str | int, ...]
_MOST = 500_000  # values of a text: aliases of aliases make billions out of a few lines


class _Loader(yaml.SafeLoader):
    """YAML 1.2's scalars: `off`, `no` and `010` are words, `1e-4` is a number; no dates, no merge keys."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


@dataclass
class Source:
    """A spec before validation: plain data, where each value was written (file and line), what is wrong already."""

    data: dict[str, Any] = field(default_factory=dict)
    places: dict[Place, tuple[str, int | None]] = field(default_factory=dict)
    file: str = ""
    wrong: list[Problem] = field(default_factory=list)

    def where(self, path: Place) -> tuple[str, int | None]:
        """File and line of a value, or of the nearest part around it that was written."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return self.file, None

    def problem(self, message: str, path: Place) -> Problem:
        """A problem at a place in this spec."""
        return Problem(message, dotted(path), *self.where(path))

    def forget(self, path: Place) -> None:
        """Drop the places of a value and of everything in it: it is about to be replaced."""
        for place in [place for place in self.places if place[: len(path)] == path]:
            del self.places[place]


def dotted(path: Iterable[str | int]) -> str:
    """`('augmentation', 'weak', 0)` as `augmentation.weak[0]`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def parse(text: str, file: str) -> tuple[Any, dict[Place, tuple[str, int | None]], list[Problem]]:
    """The data of a YAML text, the line of each of its values, and what in it cannot be meant.

    Such as a key that stands twice, of which the first counts, or a tag (`!!python/…`), which gives null.
    Raises SpecError where the text is not YAML.
    """
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            return None, {}, []
        builder = _Builder(loader, file)
        data = builder.build(root, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        reason = " ".join(part for part in (error.context, error.problem) if part)
        line = mark.line + 1 if mark else None
        raise SpecError([Problem(f"not valid YAML: {reason}", file=file, line=line)]) from None
    except yaml.YAMLError as error:
        raise SpecError([Problem(f"not valid YAML: {' '.join(str(error).split())}", file=file)]) from None
    except RecursionError:
        raise SpecError([Problem("nested too deeply, or an alias that holds itself", file=file)]) from None
    return data, builder.places, builder.wrong


class _Builder:
    """Turns nodes into data, noting where each stood and what cannot be meant."""

    def __init__(self, loader: _Loader, file: str):
        self.loader = loader
        self.file = file
        self.places: dict[Place, tuple[str, int | None]] = {}
        self.wrong: list[Problem] = []
        self.built = 0

    def build(self, node: yaml.Node, path: Place) -> Any:
        self.built += 1
        if self.built > _MOST:
            message = f"holds more than {_MOST:,} values, each use of an alias counted"
            raise SpecError([Problem(message, file=self.file)])
        self.places.setdefault(path, (self.file, _line(node)))
        if isinstance(node, yaml.MappingNode):
            self._refuse_tag(node, "tag:yaml.org,2002:map", path)
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            self._refuse_tag(node, "tag:yaml.org,2002:seq", path)
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        plain = node.style is None
        if self._refuse_tag(node, self.loader.resolve(yaml.ScalarNode, node.value, (plain, not plain)), path):
            return None
        try:
            return self.loader.construct_object(node)
        except ValueError:  # Python reads no integer of more than 4,300 digits
            self._add("not a number that can be read", node, path)
            return None

    def _mapping(self, node: yaml.MappingNode, path: Place) -> dict[str, Any]:
        built: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._add("a key must be a word, not a list or a mapping", key_node, path)
                continue
            here = (*path, key_node.value)
            if key_node.value in built:
                self._add("this key stands here twice", key_node, here)
                continue
            self.places[here] = (self.file, _line(key_node))
            built[key_node.value] = self.build(value_node, here)
        return built

    def _refuse_tag(self, node: yaml.Node, implied: str, path: Place) -> bool:
        if node.tag == implied:
            return False
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        self._add(f"a spec has no YAML tags; got {tag}", node, path)
        return True

    def _add(self, message: str, node: yaml.Node, path: Place) -> None:
        self.wrong.append(Problem(message, dotted(path), self.file, _line(node)))


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
