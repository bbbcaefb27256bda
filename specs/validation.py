"""Puts pydantic's errors into the terms of the spec file."""

import copy
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from specs.errors import Problem, nearest
from specs.experiment import SweepSpec
from specs.parsing import Place, Source, dotted
from specs.schema import allowed, choices, is_list, keys, locate, sweepable_fields

_STAND_INS: dict[str, Any] = {
    "name": "stand-in",
    "dataset": {"name": "digits"},
    "model": {"name": "mlp"},
    "training": {"regime": "subset", "epochs": 1},
}
# Checks of combinations read these together: with one of them broken, none of the others can be judged.
_TOGETHER = frozenset({"augmentation", "training", "selection", "checkpoints"})


def problems(error: ValidationError, source: Source, data: dict[str, Any]) -> list[Problem]:
    """Pydantic's errors about `data`, at the places where the source has it."""
    found: list[Problem] = []
    for detail in error.errors(include_url=False):
        if detail["type"] == "value_error" and not detail["loc"]:
            # TrialSpec's checks across sections: "section.field: message", one a line
            for line in str(detail["ctx"]["error"]).split("\n"):
                name, message = line.split(": ", 1)
                path: Place = tuple(name.split("."))
                value = _at(data, path)
                found.append(_problem(source, path, message, value, has_value=value is not None))
        elif detail["type"] == "too_short" and len(detail["input"]) >= detail["ctx"]["min_length"]:
            pass  # pydantic counts the good items alone; the bad ones are reported one by one
        else:
            found.append(_field_problem(detail, source))
    return found


def _field_problem(detail: ErrorDetails, source: Source) -> Problem:
    path, node = locate(detail["loc"])
    field = dotted(path)
    kind, value = detail["type"], detail["input"]
    if kind == "missing":
        return _problem(source, path, f"missing; should be {allowed(node)}")
    if kind == "extra_forbidden":
        known = keys(locate(detail["loc"][:-1])[1])
        if len(path) == 1:
            known = (*known, "extends")
        message = f"unknown key{nearest(str(path[-1]), known)}; allowed: {', '.join(known)}"
        if path[0] == "sweep" and path[-1] in sweepable_fields():
            message = f"unknown key; a field to vary stands under sweep.grid: sweep.grid.{path[-1]}"
    elif kind == "value_error":
        message = str(detail["ctx"]["error"])
    elif kind in ("union_tag_invalid", "literal_error"):
        if kind == "union_tag_invalid":
            path, value = (*path, "name"), detail["ctx"]["tag"]
        names = choices(node)
        message = f"not allowed{nearest(str(value), names)}; allowed: {', '.join(names)}"
    else:
        message = f"should be {allowed(node)}"
        if path == ("seeds",):
            message += ", such as [0, 1, 2]"
    if isinstance(value, list) and not is_list(node) and field in sweepable_fields():
        message += f"; to vary it, list the values under sweep.grid.{field}"
    return _problem(source, path, message, value, has_value=True)


def sound_parts(data: dict[str, Any], error: ValidationError) -> tuple[SweepSpec, frozenset[str]] | None:
    """A sweep of the sections that `error` finds nothing wrong with, and the names of those it says nothing about.

    What is unknown is left out, what is wrong is replaced by the simplest thing that is right, so that one
    reading of a spec can report combinations and axes too. None where the axes themselves are wrong.
    """
    data = copy.deepcopy(data)
    broken: set[str] = set()
    for detail in error.errors(include_url=False):
        path, _ = locate(detail["loc"])
        if detail["type"] == "extra_forbidden":
            del _at(data, path[:-1])[path[-1]]
        else:
            broken.add(str(path[0]))
    if "sweep" in broken:
        return None
    for section in broken:
        data.pop(section, None)
        if section in _STAND_INS:
            data[section] = _STAND_INS[section]
    return SweepSpec.model_validate(data), frozenset(broken | _TOGETHER if broken & _TOGETHER else broken)


def _problem(source: Source, path: Place, message: str, value: Any = None, *, has_value: bool = False) -> Problem:
    return Problem(message, dotted(path), *source.where(path), value, has_value)


def _at(data: Any, path: Place) -> Any:
    """The value at a path, or None where there is none."""
    for step in path:
        if isinstance(data, dict):
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int):
            data = data[step]
        else:
            return None
    return data
