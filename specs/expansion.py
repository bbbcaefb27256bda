"""From a sweep to its trials."""

import itertools
import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from specs.errors import Problem, SpecError, nearest, shown
from specs.experiment import AXES, Distribution, Experiment, SweepSpec, TrialSpec
from specs.identity import spec_hash
from specs.parsing import Source
from specs.schema import sweepable_fields
from specs.validation import problems

MOST_TRIALS = 100_000
# what a trial's strategy and size tell of its place on the axes
OWN_AXES = frozenset({"selection.strategy", "selection.fraction", "selection.budget", "selection.tolerance"})


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

    Points that differ only in fields without effect (the fraction of `full`, say) are one trial; those that differ
    only in where their data lie are refused.
    `source` tells where the sweep was written, for errors; without it they name the sweep alone.
    Raises SpecError with all that is wrong with any of them, each thing once.
    """
    source = source or Source(sweep.model_dump(), file=sweep.name)
    _check_axes(sweep, source)
    base = json.dumps(sweep.model_dump(include=set(Experiment.model_fields)))
    trials: dict[str, Trial] = {}
    wrong: dict[Problem, list[dict[str, Any]]] = {}
    points = list(_points(sweep))
    for point in points:
        data = _at(json.loads(base), point)
        for seed in sweep.seeds:
            try:
                spec = TrialSpec.model_validate({**data, "seed": seed})
            except ValidationError as error:
                for problem in problems(error, _with_axes(source, sweep, point), data):
                    wrong.setdefault(problem, []).append(point)
                break  # no check of a trial depends on its seed
            trial = Trial(spec, point)
            first = trials.setdefault(trial.hash, trial)
            if _data_of(first) != _data_of(trial):
                wrong.setdefault(_twins(first, trial, _with_axes(source, sweep, point)), []).append(point)
                break
    if wrong:
        raise SpecError([_at_points(problem, at, len(points)) for problem, at in wrong.items()])
    return list(trials.values())


def _data_of(trial: Trial) -> tuple[str | None, str | None]:
    return trial.spec.dataset.root, trial.spec.dataset.endpoint


def _twins(first: Trial, second: Trial, source: Source) -> Problem:
    """Two trials on other data: taken for repeats of one, one of them would be dropped, or averaged with the other."""
    there, here = (" at ".join(place for place in _data_of(trial) if place) for trial in (first, second))
    message = (
        f"differs from the trial on {there} in nothing but where its data lie, which is not part of what a trial "
        "is: write a spec for each data set, of its own name"
    )
    return replace(source.problem(message, ("dataset", "root")), value=here, has_value=True)


def _check_axes(sweep: SweepSpec, source: Source) -> None:
    axes, wrong = sweep.sweep, []
    fields = sweepable_fields()
    seen: dict[str, str] = {}
    for axis in AXES:
        for name, values in getattr(axes, axis).items():
            place = ("sweep", axis, name)
            if name == "seed":
                wrong.append(source.problem("repeat a sweep with `seeds: [0, 1, …]` instead", place))
            elif name not in fields:
                wrong.append(source.problem(f"no field that can be swept{nearest(name, fields)}", place))
            elif name in seen:
                wrong.append(source.problem(f"also stands in sweep.{seen[name]}", place))
            seen[name] = axis
            if not isinstance(values, Distribution) and not values:
                wrong.append(source.problem("needs at least one value", place))
    lengths = {name: len(values) for name, values in axes.zip.items()}
    rows = max(lengths.values(), default=1)
    trials = math.prod(map(len, axes.grid.values())) * rows * axes.samples * len(sweep.seeds)
    if trials > MOST_TRIALS:
        message = f"makes {trials:,} trials; should be at most {MOST_TRIALS:,}: write several specs"
        wrong.append(source.problem(message, ("sweep",)))
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        wrong.append(source.problem(f"lists of zip must have one length; got {listed}", ("sweep", "zip")))
    for outer, inner in itertools.permutations(seen, 2):
        if inner.startswith(f"{outer}."):
            place = ("sweep", seen[inner], inner)
            wrong.append(source.problem(f"lies inside {outer}, which is swept too", place))
    if wrong:
        raise SpecError(wrong)


def _points(sweep: SweepSpec) -> Iterator[dict[str, Any]]:
    axes = sweep.sweep
    grid = [dict(zip(axes.grid, values, strict=True)) for values in itertools.product(*axes.grid.values())]
    rows = [dict(zip(axes.zip, values, strict=True)) for values in zip(*axes.zip.values(), strict=True)]
    stream = random.Random(axes.sample_seed)
    draws = [{name: _draw(stream, spread) for name, spread in axes.sample.items()} for _ in range(axes.samples)]
    for a, b, c in itertools.product(grid, rows or [{}], draws):
        yield {**a, **b, **c}


def _draw(stream: random.Random, spread: Distribution) -> float | int:
    if spread.distribution == "integer":
        return stream.randint(int(spread.low), int(spread.high))
    if spread.distribution == "log_uniform":
        drawn = math.exp(stream.uniform(math.log(spread.low), math.log(spread.high)))
        return min(max(drawn, spread.low), spread.high)  # exp(log(x)) may miss x by a rounding
    return stream.uniform(spread.low, spread.high)


def _at(data: dict[str, Any], point: dict[str, Any]) -> dict[str, Any]:
    """A sweep's own fields with those of a point of it put in."""
    for name, value in point.items():
        *sections, last = name.split(".")
        where = data
        for section in sections:
            where = where[section]
        where[last] = value
    return data


def _with_axes(source: Source, sweep: SweepSpec, point: dict[str, Any]) -> Source:
    """The source with swept fields placed where their values stand, under `sweep:`."""
    places = dict(source.places)
    for name, value in point.items():
        for axis in AXES:
            values = getattr(sweep.sweep, axis).get(name)
            if values is None:
                continue
            at: tuple[str | int, ...] = ("sweep", axis, name)
            if not isinstance(values, Distribution):
                at = (*at, next(index for index, other in enumerate(values) if other is value))
            places[tuple(name.split("."))] = source.where(at)
    return Source(source.data, places, source.file)


def _at_points(problem: Problem, at: list[dict[str, Any]], of: int) -> Problem:
    """Name the point of the sweep where a problem arises, unless it arises at all of them or in a swept value."""
    in_swept = any(f"{problem.path}.".startswith(f"{name}.") for name in at[0])
    if in_swept or len(at) == of:
        return problem
    named = ", ".join(f"{name.rsplit('.', 1)[-1]}={shown(value)}" for name, value in at[0].items())
    more = f" and {len(at) - 1} more" if len(at) > 1 else ""
    return replace(problem, message=f"{problem.message} (at {named}{more})")
