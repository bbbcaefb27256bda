"""Where a sweep's set-up differs from that of another: computed from all that changes the results of their trials."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from specs import SweepSpec, effective, expand

_KINDS = ("selection.strategy", "training.schedule.name")  # which other fields there are depends on these
_SIZES = ("selection.fraction", "selection.budget", "selection.tolerance")


@dataclass(frozen=True)
class Difference:
    """A field and its values over the trials of either sweep, in words; empty where no trial has it."""

    field: str
    here: str
    there: str


def differences(here: SweepSpec, there: SweepSpec) -> list[Difference]:
    """Fields with an effect whose values over all trials are not the same set, and the number of seeds.

    Where two sections are of different kinds (another schedule, another strategy), the kind is listed, and of the
    fields only those that both kinds have. Where the data lies, and what it was run on, is no part of a set-up.
    """
    ours, theirs = _values(here), _values(there)
    found = [
        Difference(field, _text(ours.get(field, {})), _text(theirs.get(field, {})))
        for field in [*theirs, *(field for field in ours if field not in theirs)]
        if set(ours.get(field, {})) != set(theirs.get(field, {}))
    ]
    kinds = {one.field for one in found} & set(_KINDS)
    found = [one for one in found if (one.here and one.there) or not any(_follows(one.field, kind) for kind in kinds)]
    if len(here.seeds) != len(there.seeds):
        found.append(Difference("seeds", str(len(here.seeds)), str(len(there.seeds))))
    return found


def _follows(field: str, kind: str) -> bool:
    """Whether a field may be there or not because of the kind of its section."""
    return field.rpartition(".")[0] == kind.rpartition(".")[0] and field not in _SIZES


def _values(sweep: SweepSpec) -> dict[str, dict[str, Any]]:
    """Field: its distinct values over the trials, by their JSON, in order of appearance."""
    found: dict[str, dict[str, Any]] = {}
    for trial in expand(sweep):
        data = effective(trial.spec)
        del data["seed"], data["machine"]
        for field, value in _fields(data, ""):
            if value is not None:
                found.setdefault(field, {})[json.dumps(value, sort_keys=True)] = value
    return found


def _fields(data: dict[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, dict):
            yield from _fields(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _text(values: dict[str, Any]) -> str:
    return ", ".join(_word(value) for value in values.values())


def _word(value: Any) -> str:
    """A value as one reads it: `[100, 150]`, `random_crop(padding=4) + random_flip(probability=0.5)`; without nulls."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return " + ".join(_word(item) for item in value) or "none"
    if isinstance(value, dict):
        given = {key: option for key, option in value.items() if key != "name" and option is not None}
        options = ", ".join(f"{key}={_word(option)}" for key, option in given.items())
        return f"{value.get('name', '')}({options})" if options else str(value["name"])
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value)
