"""From a sweep to its trials."""

import itertools
import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from specs.errors import Problem, SpecError, nearest
from specs.experiment import Distribution, Experiment, SweepSpec, TrialSpec
from specs.identity import spec_hash
from specs.loading import AXES, Source, problems
from specs.schema import sweepable_fields


@dataclass(frozen=True)
class Trial:
    """One run of a sweep: what it does, and where on the sweep's axes it lies."""

    spec: TrialSpec
    point: dict[str, Any]

    @property
    def hash(self) -> str:
        """Hash of all of the spec that changes the result (`specs.identity.spec_hash`)."""
        return spec_hash(self.spec)

    def size(self) -> str:
        """The size of S as the spec gives it: `10%`, `150`, `ξ=0.5`, or nothing where it has no effect."""
        chosen = self.spec.selection
        if not self.spec.needs_size():
            return ""
        if chosen.fraction is not None:
            return f"{chosen.fraction * 100:g}%"
        return str(chosen.budget) if chosen.budget is not None else f"ξ={chosen.tolerance:g}"


def expand(sweep: SweepSpec, source: Source | None = None) -> list[Trial]:
    """All trials of a sweep: grid x zip x sample x seeds, in that order, without repeats.

    Points that differ only in fields without effect (the fraction of `full`, say) are one trial.
    Raises SpecError with all that is wrong with any of them, each thing once.
    """
    source = source or Source(sweep.model_dump(), file=sweep.name)
    _check_axes(sweep, source)
    base = sweep.model_dump(include=set(Experiment.model_fields), exclude_unset=True)
    trials: dict[str, Trial] = {}
    wrong: dict[Problem, list[dict[str, Any]]] = {}
    points = list(_points(sweep))
    for point in points:
        data = _at(base, point)
        for seed in sweep.seeds:
            try:
                spec = TrialSpec.model_validate({**data, "seed": seed})
            except ValidationError as error:
                for problem in problems(error, _with_axes(source, sweep, point), data):
                    wrong.setdefault(problem, []).append(point)
                break
            trial = Trial(spec, point)
            trials.setdefault(trial.hash, trial)
    if wrong:
        raise SpecError([_at_points(problem, at, len(points)) for problem, at in wrong.items()])
    return list(trials.values())


def _check_axes(sweep: SweepSpec, source: Source) -> None:
    axes, wrong = sweep.sweep, []
    allowed = sweepable_fields()
    seen: dict[str, str] = {}
    for axis in AXES:
        for name, values in getattr(axes, axis).items():
            file, line = source.where(("sweep", axis, name))
            place = f"sweep.{axis}.{name}"
            if name == "seed":
                wrong.append(Problem("repeat a sweep with `seeds: [0, 1, …]` instead", place, file, line))
            elif name not in allowed:
                wrong.append(Problem(f"no such field{nearest(name, allowed)}", place, file, line))
            elif name in seen:
                wrong.append(Problem(f"also stands in sweep.{seen[name]}", place, file, line))
            seen[name] = axis
            if not isinstance(values, Distribution) and not values:
                wrong.append(Problem("needs at least one value", place, file, line))
    lengths = {name: len(values) for name, values in axes.zip.items()}
    if len(set(lengths.values())) > 1:
        file, line = source.where(("sweep", "zip"))
        wrong.append(
            Problem(f"all lists of zip must have one length; got {lengths}", "sweep.zip", file, line)
        )
    for outer, inner in itertools.permutations(seen, 2):
        if inner.startswith(f"{outer}."):
            file, line = source.where(("sweep", seen[inner], inner))
            wrong.append(
                Problem(
                    f"lies inside {outer}, which is swept too", f"sweep.{seen[inner]}.{inner}", file, line
                )
            )
    if wrong:
        raise SpecError(wrong)


def _points(sweep: SweepSpec) -> Iterator[dict[str, Any]]:
    axes = sweep.sweep
    grid = [dict(zip(axes.grid, values, strict=True)) for values in itertools.product(*axes.grid.values())]
    rows = [dict(zip(axes.zip, values, strict=True)) for values in zip(*axes.zip.values(), strict=True)] or [
        {}
    ]
    stream = random.Random(axes.sample_seed)
    draws = [
        {name: _draw(stream, spread) for name, spread in axes.sample.items()} for _ in range(axes.samples)
    ]
    for a, b, c in itertools.product(grid, rows, draws if axes.sample else [{}]):
        yield {**a, **b, **c}


def _draw(stream: random.Random, spread: Distribution) -> float | int:
    if spread.distribution == "integer":
        return stream.randint(round(spread.low), round(spread.high))
    if spread.distribution == "log_uniform":
        return math.exp(stream.uniform(math.log(spread.low), math.log(spread.high)))
    return stream.uniform(spread.low, spread.high)


def _at(base: dict[str, Any], point: dict[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(base))
    for name, value in point.items():
        *sections, last = name.split(".")
        where = data
        for section in sections:
            inner = where.setdefault(section, {})
            if not isinstance(inner, dict):
                inner = where[section] = {"name": inner}
            where = inner
        where[last] = value
    return data


def _with_axes(source: Source, sweep: SweepSpec, point: dict[str, Any]) -> Source:
    """The source with swept fields placed where their values stand, under `sweep:`."""
    places = dict(source.places)
    for name, value in point.items():
        for axis in ("grid", "zip"):
            values = getattr(sweep.sweep, axis).get(name, ())
            if value in values:
                at = source.where(("sweep", axis, name, list(values).index(value)))
                places[tuple(name.split("."))] = at
    return Source(source.data, places, source.file)


def _at_points(problem: Problem, at: list[dict[str, Any]], of: int) -> Problem:
    """Name the point of the sweep where a problem arises, unless it shows its value or arises at all."""
    if problem.has_value or len(at) == of:
        return problem
    named = ", ".join(f"{name.rsplit('.', 1)[-1]}={value}" for name, value in at[0].items())
    more = f" and {len(at) - 1} other points" if len(at) > 1 else ""
    return replace(problem, message=f"{problem.message} (at {named}{more})")
